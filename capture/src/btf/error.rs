//! Why a question about a kernel's types has no answer.

/// Why a question about a kernel's types has no answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BtfError {
    /// The bytes do not begin as BTF does.
    #[error("not BTF: give a kernel's /sys/kernel/btf/vmlinux")]
    NotBtf,
    /// The BTF is of a machine of the other endianness.
    #[error("BTF of the other endianness: it is not this machine's")]
    Endianness,
    /// The BTF is of a version that is not known.
    #[error("BTF of version {0}: only version 1 is known")]
    Version(u8),
    /// A type of a kind that is not known: what follows it cannot be found.
    #[error("BTF type {id} is of kind {kind}, which is not known: the kernel is too new")]
    UnknownKind {
        /// Number of the kind.
        kind: u8,
        /// Id of the type.
        id: u32,
    },
    /// The BTF contradicts itself.
    #[error("corrupt BTF: {0}")]
    Corrupt(&'static str),
    /// There is no struct or union of this name.
    #[error("the kernel has no type {0}")]
    NoType(String),
    /// The type has no such field.
    #[error("the kernel's {type_name} has no field {field}")]
    NoField {
        /// Name of the struct, union or enum.
        type_name: String,
        /// Name of the field, a path, or name of an enumerator.
        field: String,
    },
    /// Types of the same name have this field in different places.
    #[error("the kernel has several types {type_name}, which differ in {field}")]
    Ambiguous {
        /// Name of the struct or union.
        type_name: String,
        /// Name of the field, or path.
        field: String,
    },
    /// The field is a bit-field that does not consist of whole bytes.
    #[error("the kernel's {type_name}.{field} is a bit-field")]
    BitField {
        /// Name of the struct or union.
        type_name: String,
        /// Name of the field, or path.
        field: String,
    },
    /// The types that the field consists of cannot be followed.
    #[error("corrupt BTF: the type of {type_name}.{field} cannot be followed")]
    Unfollowed {
        /// Name of the struct or union.
        type_name: String,
        /// Name of the field, or path.
        field: String,
    },
    /// The field is not as large as it should be: it is not what it is taken for.
    #[error("the kernel's {type_name}.{field} has {size} bytes instead of {expected}")]
    Size {
        /// Name of the struct or union.
        type_name: &'static str,
        /// Name of the field, or path.
        field: &'static str,
        /// Its size in bytes.
        size: u32,
        /// The size that was expected.
        expected: u32,
    },
}
