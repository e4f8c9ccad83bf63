//! Reads configuration files: globs, directories, errors of the file system.
