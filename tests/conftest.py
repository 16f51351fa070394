"""Strict numbers and checked shapes for every test."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("CWF_JAX_HOME", os.path.join(os.path.dirname(__file__), "no-such-folder"))

import jax
import jaxtyping

jax.config.update("jax_default_matmul_precision", "highest")
jax.config.update("jax_numpy_dtype_promotion", "standard")

jaxtyping.install_import_hook(["cwf_jax.ops", "cwf_jax.encoder"], "beartype.beartype").install()
