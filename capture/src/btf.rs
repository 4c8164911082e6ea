//! Reads the types of the running kernel (BTF) for the offsets of fields.
