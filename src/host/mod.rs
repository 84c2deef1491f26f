//! Plain functions on ndarray views: noise, sigmas, sampler steps, guidance, resize, CLIP preprocess. One implementation, used by `interp` and `runtime`.
