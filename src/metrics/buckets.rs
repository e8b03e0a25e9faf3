//! Buckets of histograms.

/// Upper bounds in seconds, from a millisecond to the maximum duration of a request.
pub(super) const SECONDS: [f64; 13] =
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0];
