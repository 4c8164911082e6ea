//! Reads the types of a kernel (BTF) for the offsets of fields.
//!
//! It knows the format and no kernel structure, reads no file, and keeps nothing but where each
//! type begins: a question is answered by a scan. The kernel is trusted with the answers, but not
//! to be without faults: whatever the bytes, nothing panics, and every loop and every allocation
//! is bounded by their number.
//!
//! Format: Linux, `Documentation/bpf/btf.rst` and `include/uapi/linux/btf.h`.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod error;
mod field;
#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;
mod wire;

pub use error::BtfError;

pub(crate) use field::Field;
use wire::{Kind, Type, TypeId};

/// `KSYM_NAME_LEN` of the kernel: no name is longer.
const LONGEST_NAME: usize = 512;

/// Parameters of a function that are named at most; the kernel's have up to some twenty.
const MOST_PARAMETERS: usize = 64;

/// The types of a kernel: what `/sys/kernel/btf/vmlinux` holds.
#[derive(Debug)]
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where each type begins in `types`. Type ids count from 1: 0 is `void`.
    starts: Vec<u32>,
}

impl<'a> Btf<'a> {
    /// Finds where each type begins; needs 4 bytes of memory for each.
    ///
    /// # Errors
    ///
    /// When the bytes are not BTF, are of the other endianness or of another version, hold a kind
    /// of type that is not known (its length is not either), or end too soon.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let (types, strings) = wire::sections(bytes)?;
        let starts = wire::starts(types)?;
        Ok(Self {
            types,
            strings,
            starts,
        })
    }

    /// Byte offset of a field in a struct or union. Fields of anonymous members are found like
    /// those of the struct itself; a dotted path such as `ns.inum` leads into named ones.
    ///
    /// # Errors
    ///
    /// When there is no such type or field, when types of the same name disagree on it, or when it
    /// is a bit-field that does not consist of whole bytes. The error names type and field.
    pub fn offset(&self, type_name: &str, path: &str) -> Result<u32, BtfError> {
        self.field(type_name, path).map(|field| field.offset)
    }

    /// Size in bytes of a field that [`offset`](Self::offset) would find.
    ///
    /// # Errors
    ///
    /// Those of [`offset`](Self::offset).
    pub fn size(&self, type_name: &str, path: &str) -> Result<u32, BtfError> {
        self.field(type_name, path).map(|field| field.size)
    }

    /// Value of an enumerator of the named enum, or else of an enum without name. `None` where
    /// there is none, where it does not fit, or where enums disagree.
    pub fn enumerator(&self, enum_name: &str, name: &str) -> Option<u32> {
        [enum_name, ""].iter().find_map(|enum_name| {
            let mut values = self
                .named(enum_name, |kind| matches!(kind, Kind::Enum | Kind::Enum64))
                .flat_map(Type::enumerators)
                .filter(|enumerator| self.is_named(enumerator.name, name))
                .map(|enumerator| enumerator.value);
            let first = values.next()??;
            values.all(|value| value == Some(first)).then_some(first)
        })
    }

    /// Whether the kernel has a function of this name that was not inlined everywhere.
    pub fn has_function(&self, name: &str) -> bool {
        self.named(name, |kind| kind == Kind::Func).next().is_some()
    }

    /// Names of a function's parameters, in order; empty for `...`. `None` where there is no such
    /// function, or where functions of this name disagree.
    pub fn parameters(&self, function: &str) -> Option<Vec<&'a str>> {
        let mut prototypes = self
            .named(function, |kind| kind == Kind::Func)
            .map(|ty| self.prototype(ty));
        let first = prototypes.next()??;
        prototypes
            .all(|other| other.as_ref() == Some(&first))
            .then_some(first)
    }

    fn prototype(&self, function: Type<'a>) -> Option<Vec<&'a str>> {
        let prototype = self.get(function.target())?;
        (prototype.kind == Kind::FuncProto).then_some(())?;
        prototype
            .parameters()
            .take(MOST_PARAMETERS)
            .map(|name| self.string(name))
            .collect()
    }

    /// The one field that all structs and unions of this name which have it agree on.
    pub(crate) fn field(&self, type_name: &str, path: &str) -> Result<Field, BtfError> {
        let mut known = false;
        let mut found = None;
        let mut budget = field::MEMBERS_PER_LOOKUP;
        for ty in self.named(type_name, Kind::has_members) {
            known = true;
            let field = self
                .find(ty, path, &mut budget)
                .map_err(|problem| problem.at(type_name, path))?;
            match (found, field) {
                (Some(one), Some(other)) if one != other => {
                    return Err(BtfError::Ambiguous {
                        type_name: type_name.into(),
                        field: path.into(),
                    });
                }
                (None, field) => found = field,
                _ => {}
            }
        }
        match found {
            Some(field) => Ok(field),
            None if known => Err(BtfError::NoField {
                type_name: type_name.into(),
                field: path.into(),
            }),
            None => Err(BtfError::NoType(type_name.into())),
        }
    }

    /// All types of the wanted kinds that have this name.
    fn named(&self, name: &str, wanted: impl Fn(Kind) -> bool) -> impl Iterator<Item = Type<'a>> {
        self.starts
            .iter()
            .filter(move |&&at| Type::kind_at(self.types, at).is_some_and(&wanted))
            .filter_map(|&at| Type::read(self.types, at))
            .filter(move |ty| self.is_named(ty.name, name))
    }

    fn get(&self, id: TypeId) -> Option<Type<'a>> {
        let index = usize::try_from(id.0.checked_sub(1)?).ok()?;
        Type::read(self.types, *self.starts.get(index)?)
    }

    /// The name at an offset, if it is one.
    fn string(&self, at: u32) -> Option<&'a str> {
        let rest = self.strings.get(usize::try_from(at).ok()?..)?;
        let name = rest.iter().take(LONGEST_NAME).position(|&byte| byte == 0)?;
        str::from_utf8(rest.get(..name)?).ok()
    }

    /// Whether the name at an offset is this one.
    fn is_named(&self, at: u32, name: &str) -> bool {
        usize::try_from(at)
            .ok()
            .and_then(|at| self.strings.get(at..)?.strip_prefix(name.as_bytes()))
            .is_some_and(|rest| rest.first() == Some(&0))
    }
}

/// Body of the fuzz target `btf`: parses, and asks for what the bytes themselves name.
#[doc(hidden)]
pub fn fuzz_btf(bytes: &[u8]) {
    /// Types that are asked for: enough for every kind of a small seed.
    const TYPES: u32 = 32;
    let Ok(btf) = Btf::parse(bytes) else { return };
    for ty in (1..=TYPES).map_while(|id| btf.get(TypeId(id))) {
        let Some(type_name) = btf.string(ty.name) else {
            continue;
        };
        let _ = btf.parameters(type_name);
        for member in ty.members().take(8) {
            let Some(member) = btf.string(member.name) else {
                continue;
            };
            let _ = btf.size(type_name, member);
            let _ = btf.offset(type_name, &format!("{member}.{member}"));
        }
        for enumerator in ty.enumerators().take(8) {
            let name = btf.string(enumerator.name);
            let _ = name.and_then(|name| btf.enumerator(type_name, name));
        }
    }
    let _ = crate::offsets::offsets(&btf);
}
