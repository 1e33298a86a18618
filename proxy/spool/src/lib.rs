//! Journal and outbox on disk.
