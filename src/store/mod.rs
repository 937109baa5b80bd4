//! Keeps legs: commits are fenced and counted, queries only read.
