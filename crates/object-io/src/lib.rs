//! object-io
