//! The encoding: header, sections, and the record of each kind of type.

use super::BtfError;

/// `BTF_MAGIC`.
const MAGIC: u16 = 0xeb9f;
/// Length of the header in version 1; a newer kernel's may be longer.
const HEADER_LEN: usize = 24;
/// Length of `struct btf_type`, which begins every record.
const TYPE_LEN: usize = 12;

/// Number of a type; 0 is `void`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct TypeId(pub(super) u32);

/// `BTF_KIND_*`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Int,
    Ptr,
    Array,
    Struct,
    Union,
    Enum,
    Fwd,
    Typedef,
    Volatile,
    Const,
    Restrict,
    Func,
    FuncProto,
    Var,
    Datasec,
    Float,
    DeclTag,
    TypeTag,
    Enum64,
}

impl Kind {
    fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Int,
            2 => Self::Ptr,
            3 => Self::Array,
            4 => Self::Struct,
            5 => Self::Union,
            6 => Self::Enum,
            7 => Self::Fwd,
            8 => Self::Typedef,
            9 => Self::Volatile,
            10 => Self::Const,
            11 => Self::Restrict,
            12 => Self::Func,
            13 => Self::FuncProto,
            14 => Self::Var,
            15 => Self::Datasec,
            16 => Self::Float,
            17 => Self::DeclTag,
            18 => Self::TypeTag,
            19 => Self::Enum64,
            _ => return None,
        })
    }

    /// Structs and unions.
    pub(super) fn has_members(self) -> bool {
        matches!(self, Self::Struct | Self::Union)
    }

    /// Bytes that follow `struct btf_type` once, and for each of its `vlen` elements.
    fn body(self) -> (usize, usize) {
        match self {
            Self::Int | Self::Var | Self::DeclTag => (4, 0),
            Self::Array => (12, 0),
            Self::Struct | Self::Union | Self::Datasec | Self::Enum64 => (0, 12),
            Self::Enum | Self::FuncProto => (0, 8),
            Self::Ptr
            | Self::Fwd
            | Self::Typedef
            | Self::Volatile
            | Self::Const
            | Self::Restrict
            | Self::Func
            | Self::Float
            | Self::TypeTag => (0, 0),
        }
    }
}

/// The sections of types and of strings. Strings end with a zero, the last one too.
pub(super) fn sections(bytes: &[u8]) -> Result<(&[u8], &[u8]), BtfError> {
    let magic = bytes.first_chunk().map(|magic| u16::from_ne_bytes(*magic));
    match magic {
        Some(MAGIC) => {}
        Some(magic) if magic.swap_bytes() == MAGIC => return Err(BtfError::Endianness),
        _ => return Err(BtfError::NotBtf),
    }
    match bytes.get(2) {
        Some(1) => {}
        Some(&version) => return Err(BtfError::Version(version)),
        None => return Err(BtfError::Corrupt("it ends in its header")),
    }
    let field = |at| word(bytes, at).and_then(|word| usize::try_from(word).ok());
    let section = |offset_at, len_at| {
        let sections = bytes.get(field(4).filter(|&len| len >= HEADER_LEN)?..)?;
        sections.get(field(offset_at)?..)?.get(..field(len_at)?)
    };
    let types = section(8, 12).ok_or(BtfError::Corrupt("its types lie outside"))?;
    let strings: &[u8] = section(16, 20).ok_or(BtfError::Corrupt("its strings lie outside"))?;
    match strings.last() {
        Some(0) => Ok((types, strings)),
        _ => Err(BtfError::Corrupt("its last string does not end")),
    }
}

/// Where each type begins, in the order of their ids, from id 1.
pub(super) fn starts(types: &[u8]) -> Result<Vec<u32>, BtfError> {
    const TOO_SHORT: BtfError = BtfError::Corrupt("its last type does not end");
    let mut starts = Vec::new();
    let mut at: u32 = 0;
    while usize::try_from(at).is_ok_and(|at| at < types.len()) {
        starts.push(at);
        let ty = Type::read(types, at).ok_or_else(|| match unknown_kind(types, at) {
            Some(kind) => BtfError::UnknownKind {
                kind,
                id: u32::try_from(starts.len()).unwrap_or(u32::MAX),
            },
            None => TOO_SHORT,
        })?;
        let len = u32::try_from(ty.body.len().saturating_add(TYPE_LEN)).map_err(|_| TOO_SHORT)?;
        at = at.checked_add(len).ok_or(TOO_SHORT)?;
    }
    Ok(starts)
}

fn unknown_kind(types: &[u8], at: u32) -> Option<u8> {
    let record = types.get(usize::try_from(at).ok()?..)?;
    let kind = kind_number(word(record, 4)?);
    Kind::from_number(kind).is_none().then_some(kind)
}

/// Bits 24 to 30 of `info`. Older kernels use only five of the seven, the others are zero: Linux
/// commit f7a6b9eaff3e.
fn kind_number(info: u32) -> u8 {
    (info >> 24) as u8 & 0x7f
}

/// A type: `struct btf_type` and what follows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Type<'a> {
    /// Offset of its name in the strings; 0 for none.
    pub(super) name: u32,
    pub(super) kind: Kind,
    /// `kind_flag`.
    flag: bool,
    /// Size in bytes, or id of another type.
    size_or_type: u32,
    body: &'a [u8],
}

/// A member of a struct or union.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    /// Offset of its name in the strings; 0 for none.
    pub(super) name: u32,
    pub(super) ty: TypeId,
    /// Where it begins in its struct.
    pub(super) bit_offset: u32,
    /// Width of a bit-field; 0 for others, and where the member's integer type tells it.
    pub(super) bit_width: u32,
}

/// An enumerator of an enum.
#[derive(Clone, Copy, Debug)]
pub(super) struct Enumerator {
    /// Offset of its name in the strings.
    pub(super) name: u32,
    /// Its value, a negative one as its two's complement; `None` where it has more than 32 bits.
    pub(super) value: Option<u32>,
}

/// Which bits of its bytes an integer type uses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bits {
    pub(super) offset: u32,
    pub(super) width: u32,
}

/// An array's element type and their number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Array {
    pub(super) element: TypeId,
    pub(super) count: u32,
}

impl<'a> Type<'a> {
    /// Its kind alone: most types are passed over for it.
    pub(super) fn kind_at(types: &[u8], at: u32) -> Option<Kind> {
        let record = types.get(usize::try_from(at).ok()?..)?;
        Kind::from_number(kind_number(word(record, 4)?))
    }

    /// The type that begins at `at`, if it is whole and of a known kind.
    pub(super) fn read(types: &'a [u8], at: u32) -> Option<Self> {
        let record = types.get(usize::try_from(at).ok()?..)?;
        let info = word(record, 4)?;
        let kind = Kind::from_number(kind_number(info))?;
        // Older kernels use only 16 of the 24 bits: the same commit.
        let vlen = usize::try_from(info & 0xff_ffff).ok()?;
        let (once, each) = kind.body();
        let len = vlen.checked_mul(each)?.checked_add(once)?;
        Some(Self {
            name: word(record, 0)?,
            kind,
            flag: info >> 31 == 1,
            size_or_type: word(record, 8)?,
            body: record.get(TYPE_LEN..)?.get(..len)?,
        })
    }

    /// The type that a pointer, modifier, typedef or function refers to.
    pub(super) fn target(&self) -> TypeId {
        TypeId(self.size_or_type)
    }

    /// Size in bytes, of kinds that tell it themselves.
    pub(super) fn own_size(&self) -> u32 {
        self.size_or_type
    }

    /// Members of a struct or union; none of others.
    pub(super) fn members(self) -> impl Iterator<Item = Member> + use<'a> {
        let body = self.body_if(self.kind.has_members());
        body.chunks_exact(12).filter_map(move |member| {
            let offset = word(member, 8)?;
            Some(Member {
                name: word(member, 0)?,
                ty: TypeId(word(member, 4)?),
                bit_offset: if self.flag {
                    offset & 0xff_ffff
                } else {
                    offset
                },
                bit_width: if self.flag { offset >> 24 } else { 0 },
            })
        })
    }

    /// Enumerators of an enum; none of others.
    pub(super) fn enumerators(self) -> impl Iterator<Item = Enumerator> + use<'a> {
        let body = self.body_if(matches!(self.kind, Kind::Enum | Kind::Enum64));
        let len = if self.kind == Kind::Enum64 { 12 } else { 8 };
        body.chunks_exact(len).filter_map(|enumerator| {
            let low = word(enumerator, 4)?;
            let high = word(enumerator, 8).unwrap_or(0);
            Some(Enumerator {
                name: word(enumerator, 0)?,
                value: (high == 0).then_some(low),
            })
        })
    }

    /// Where the names of a prototype's parameters are in the strings; none of others.
    pub(super) fn parameters(self) -> impl Iterator<Item = u32> + use<'a> {
        let body = self.body_if(self.kind == Kind::FuncProto);
        body.chunks_exact(8)
            .filter_map(|parameter| word(parameter, 0))
    }

    /// The bits of an integer.
    pub(super) fn bits(&self) -> Option<Bits> {
        let encoding = word(self.body_if(self.kind == Kind::Int), 0)?;
        Some(Bits {
            offset: encoding >> 16 & 0xff,
            width: encoding & 0xff,
        })
    }

    /// What an array consists of.
    pub(super) fn array(&self) -> Option<Array> {
        let body = self.body_if(self.kind == Kind::Array);
        Some(Array {
            element: TypeId(word(body, 0)?),
            count: word(body, 8)?,
        })
    }

    fn body_if(&self, wanted: bool) -> &'a [u8] {
        if wanted { self.body } else { &[] }
    }
}

/// A word of native endianness.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*word))
}
