//! A diffusers folder → spec and models.
