//! Pictures in; png, gif, mp4, npy out.
