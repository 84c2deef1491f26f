//! Distances between tensors and between videos: arithmetic on arrays; runs no network.
