//! Small BTF written by hand, for the tests.

use std::iter;

/// A type that was added.
pub(crate) type Ty = u32;

/// BTF in the making.
#[derive(Default)]
pub(crate) struct Sample {
    types: Vec<u32>,
    /// Each after a zero; the last one ends in [`finish`](Self::finish).
    strings: Vec<u8>,
    count: u32,
}

impl Sample {
    /// Any type: its kind's number, `kind_flag`, `vlen`, and the words that follow `btf_type`.
    pub(crate) fn add(
        &mut self,
        kind: u32,
        name: &str,
        (flag, vlen): (bool, u32),
        size_or_type: u32,
        body: &[u32],
    ) -> Ty {
        let name = self.name(name);
        let info = u32::from(flag) << 31 | kind << 24 | vlen;
        self.types.extend([name, info, size_or_type]);
        self.types.extend(body);
        self.count += 1;
        self.count
    }

    pub(crate) fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        self.strings.push(0);
        let at = self.strings.len();
        self.strings.extend(name.bytes());
        at.try_into().unwrap()
    }

    /// `size` in bytes.
    pub(crate) fn int(&mut self, name: &str, size: u32) -> Ty {
        self.add(1, name, (false, 0), size, &[size * 8])
    }

    pub(crate) fn pointer(&mut self, to: Ty) -> Ty {
        self.add(2, "", (false, 0), to, &[])
    }

    pub(crate) fn array(&mut self, element: Ty, count: u32) -> Ty {
        self.add(3, "", (false, 0), 0, &[element, element, count])
    }

    /// Members with their offsets in bytes.
    pub(crate) fn structure(&mut self, name: &str, size: u32, members: &[(&str, Ty, u32)]) -> Ty {
        self.container(4, name, size, members)
    }

    /// Members with their offsets in bytes.
    pub(crate) fn union(&mut self, name: &str, size: u32, members: &[(&str, Ty, u32)]) -> Ty {
        self.container(5, name, size, members)
    }

    fn container(&mut self, kind: u32, name: &str, size: u32, members: &[(&str, Ty, u32)]) -> Ty {
        let mut body = Vec::new();
        for &(member, ty, offset) in members {
            body.extend([self.name(member), ty, offset * 8]);
        }
        let vlen = members.len().try_into().unwrap();
        self.add(kind, name, (false, vlen), size, &body)
    }

    pub(crate) fn enumeration(&mut self, name: &str, enumerators: &[(&str, u32)]) -> Ty {
        let mut body = Vec::new();
        for &(enumerator, value) in enumerators {
            body.extend([self.name(enumerator), value]);
        }
        let vlen = enumerators.len().try_into().unwrap();
        self.add(6, name, (false, vlen), 4, &body)
    }

    pub(crate) fn typedef(&mut self, name: &str, of: Ty) -> Ty {
        self.add(8, name, (false, 0), of, &[])
    }

    /// The bytes, in this machine's endianness.
    pub(crate) fn finish(&self) -> Vec<u8> {
        let strings: Vec<u8> = self.strings.iter().copied().chain(iter::once(0)).collect();
        let types_len = u32::try_from(self.types.len() * 4).unwrap();
        let strings_len = u32::try_from(strings.len()).unwrap();
        let mut bytes = 0xeb9fu16.to_ne_bytes().to_vec();
        bytes.extend([1, 0]); // Version, flags.
        for word in [24, 0, types_len, types_len, strings_len] {
            bytes.extend(u32::to_ne_bytes(word));
        }
        bytes.extend(self.types.iter().flat_map(|word| word.to_ne_bytes()));
        bytes.extend(strings);
        bytes
    }
}

/// Every kind of type, each used by `everything` where a field can be of it.
pub(crate) fn every_kind() -> Vec<u8> {
    let mut sample = Sample::default();
    let int = sample.int("int", 4);
    let pointer = sample.pointer(int);
    let array = sample.array(int, 3);
    let point = sample.structure("point", 8, &[("x", int, 0), ("y", int, 4)]);
    let either = sample.union("", 8, &[("pointer", pointer, 0), ("", point, 0)]);
    let color = sample.enumeration("color", &[("RED", 1), ("MINUS", u32::MAX)]);
    let forward = sample.add(7, "unknown", (false, 0), 0, &[]);
    let typedef = sample.typedef("point_t", point);
    let volatile = sample.add(9, "", (false, 0), typedef, &[]);
    let constant = sample.add(10, "", (false, 0), volatile, &[]);
    let restrict = sample.add(11, "", (false, 0), pointer, &[]);
    let (fd, count) = (sample.name("fd"), sample.name("count"));
    let prototype = sample.add(13, "", (false, 3), int, &[fd, int, count, int, 0, 0]);
    let function = sample.add(12, "write", (false, 0), prototype, &[]);
    let variable = sample.add(14, "jiffies", (false, 0), int, &[1]);
    sample.add(15, ".data", (false, 1), 4, &[variable, 0, 4]);
    let float = sample.add(16, "double", (false, 0), 8, &[]);
    sample.add(17, "tag", (false, 0), function, &[u32::MAX]);
    let tagged = sample.add(18, "user", (false, 0), constant, &[]);
    let (huge, small) = (sample.name("HUGE"), sample.name("SMALL"));
    let wide = sample.add(19, "wide", (false, 2), 8, &[huge, 0, 1, small, 7, 0]);
    let to_forward = sample.pointer(forward);
    sample.structure(
        "everything",
        128,
        &[
            ("int", int, 0),
            ("pointer", to_forward, 8),
            ("array", array, 16),
            ("", either, 32),
            ("color", color, 40),
            ("point", tagged, 44),
            ("restrict", restrict, 56),
            ("float", float, 64),
            ("wide", wide, 72),
            ("incomplete", forward, 80),
        ],
    );
    sample.finish()
}
