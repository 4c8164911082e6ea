//! Finding a field: through anonymous members, along a path, and its size.

use super::wire::{Kind, Member, Type, TypeId};
use super::{Btf, BtfError};

/// Members that one lookup looks at: a bound for types that contain themselves. The largest struct
/// of the kernel has some hundreds.
pub(super) const MEMBERS_PER_LOOKUP: u32 = 1 << 16;

/// Typedefs, modifiers and arrays between a member and its type that are followed.
const LONGEST_CHAIN: usize = 32;

/// Where a field is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Field {
    /// Bytes from the start of its struct.
    pub(crate) offset: u32,
    /// Bytes of the field.
    pub(crate) size: u32,
}

/// Why a field that is there cannot be used.
#[derive(Clone, Copy, Debug)]
pub(super) enum Problem {
    BitField,
    Unfollowed,
}

impl Problem {
    /// The error that names the field.
    pub(super) fn at(self, type_name: &str, field: &str) -> BtfError {
        let (type_name, field) = (type_name.into(), field.into());
        match self {
            Self::BitField => BtfError::BitField { type_name, field },
            Self::Unfollowed => BtfError::Unfollowed { type_name, field },
        }
    }
}

impl<'a> Btf<'a> {
    /// The field at the end of a dotted path; `None` where the type has none.
    pub(super) fn find(
        &self,
        ty: Type<'a>,
        path: &str,
        budget: &mut u32,
    ) -> Result<Option<Field>, Problem> {
        let mut container = ty;
        let mut bit_offset = 0u32;
        let mut steps = path.split('.').peekable();
        while let Some(name) = steps.next() {
            let Some(mut member) = self.member(container, name, budget)? else {
                return Ok(None);
            };
            bit_offset = add(bit_offset, member.bit_offset)?;
            if steps.peek().is_none() {
                member.bit_offset = bit_offset;
                return self.place(member).map(Some);
            }
            container = self.resolve(member.ty).ok_or(Problem::Unfollowed)?;
        }
        Ok(None)
    }

    /// A member of the type, or of its anonymous members; its offset is that in `ty`.
    fn member(
        &self,
        ty: Type<'a>,
        name: &str,
        budget: &mut u32,
    ) -> Result<Option<Member>, Problem> {
        let mut open = vec![(ty, 0u32)];
        while let Some((ty, base)) = open.pop() {
            for mut member in ty.members() {
                *budget = budget.checked_sub(1).ok_or(Problem::Unfollowed)?;
                let anonymous = self.is_named(member.name, "");
                if !anonymous && !self.is_named(member.name, name) {
                    continue;
                }
                member.bit_offset = add(base, member.bit_offset)?;
                if !anonymous {
                    return Ok(Some(member));
                }
                let inner = self.resolve(member.ty).ok_or(Problem::Unfollowed)?;
                open.push((inner, member.bit_offset));
            }
        }
        Ok(None)
    }

    /// The bytes of a member whose offset is that in the outermost struct.
    fn place(&self, member: Member) -> Result<Field, Problem> {
        let (mut bit_offset, mut bit_width) = (member.bit_offset, member.bit_width);
        let mut size = self.size_of(member.ty).ok_or(Problem::Unfollowed)?;
        if bit_width == 0
            && let Some(bits) = self.resolve(member.ty).and_then(|ty| ty.bits())
            && (bits.offset != 0 || Some(bits.width) != size.checked_mul(8))
        {
            // Older encoders put bit-fields into the integer type. `_Bool` is of 8 bits there.
            bit_offset = add(bit_offset, bits.offset)?;
            bit_width = bits.width;
        }
        if bit_width != 0 {
            size = bit_width / 8;
        }
        if bit_offset % 8 != 0 || bit_width % 8 != 0 {
            return Err(Problem::BitField);
        }
        Ok(Field {
            offset: bit_offset / 8,
            size,
        })
    }

    /// The type itself, behind typedefs and modifiers.
    fn resolve(&self, mut id: TypeId) -> Option<Type<'a>> {
        for _ in 0..LONGEST_CHAIN {
            let ty = self.get(id)?;
            match ty.kind {
                Kind::Typedef | Kind::Volatile | Kind::Const | Kind::Restrict | Kind::TypeTag => {
                    id = ty.target();
                }
                _ => return Some(ty),
            }
        }
        None
    }

    /// Size in bytes. A pointer's is that of this machine, whose endianness the types have too.
    fn size_of(&self, mut id: TypeId) -> Option<u32> {
        let mut count = 1u32;
        for _ in 0..LONGEST_CHAIN {
            let ty = self.resolve(id)?;
            let size = match ty.kind {
                Kind::Int
                | Kind::Float
                | Kind::Enum
                | Kind::Enum64
                | Kind::Struct
                | Kind::Union => ty.own_size(),
                Kind::Ptr => u32::try_from(size_of::<usize>()).ok()?,
                Kind::Array => {
                    let array = ty.array()?;
                    count = count.checked_mul(array.count)?;
                    id = array.element;
                    continue;
                }
                _ => return None,
            };
            return size.checked_mul(count);
        }
        None
    }
}

fn add(one: u32, other: u32) -> Result<u32, Problem> {
    one.checked_add(other).ok_or(Problem::Unfollowed)
}
