"""What setup.cfg cannot say: extension modules, and packages whose folders stand elsewhere.

Without a compiler the package does without the extensions.
"""

import tempfile

from setuptools import Extension, find_packages, setup

# A folder of its own for each build: what an earlier one left would be installed again, modules that are gone included.
with tempfile.TemporaryDirectory(prefix="featurestore-build-") as folder:
    setup(
        # The others are mapped onto ingest/ and lua/ by package_dir, where find_packages does not look.
        packages=[
            *find_packages(include=["featurestore*"]),
            "featurestore.ingest",
            "featurestore.ingest.files",
            "featurestore.ingest.moving",
            "featurestore.ingest.streams",
            "featurestore.lua",
        ],
        ext_modules=[
            Extension(
                f"featurestore.native.{name}",
                [f"featurestore/native/{name}.c"],
                depends=[f"featurestore/native/{name}.h" for name in ("partition", "reader", "writer")],
                extra_compile_args=["-O2", "-Wall", "-Wextra", "-Wno-missing-field-initializers"],
                optional=True,
            )
            for name in ("columns", "partitions", "rows", "sockets", "transcode")
        ],
        options={"build": {"build_base": folder}},
    )
