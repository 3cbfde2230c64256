"""The one thing that setup.cfg cannot say: an extension module. Without a compiler the package does without it."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "featurestore._transcode",
            ["featurestore/_transcode.c"],
            extra_compile_args=["-O2", "-Wall", "-Wextra", "-Wno-missing-field-initializers"],
            optional=True,
        )
    ]
)
