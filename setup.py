"""The one thing that setup.cfg cannot say: extension modules. Without a compiler the package does without them."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            f"featurestore.{name}",
            [f"featurestore/{name}.c"],
            depends=["featurestore/_writer.h"],
            extra_compile_args=["-O2", "-Wall", "-Wextra", "-Wno-missing-field-initializers"],
            optional=True,
        )
        for name in ("_rows", "_transcode", "_wire")
    ]
)
