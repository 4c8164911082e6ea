use super::sample::{Sample, every_kind};
use super::{Btf, BtfError, fuzz_btf};

fn no_field(type_name: &str, field: &str) -> BtfError {
    BtfError::NoField {
        type_name: type_name.into(),
        field: field.into(),
    }
}

fn bit_field(type_name: &str, field: &str) -> BtfError {
    BtfError::BitField {
        type_name: type_name.into(),
        field: field.into(),
    }
}

fn unfollowed(type_name: &str, field: &str) -> BtfError {
    BtfError::Unfollowed {
        type_name: type_name.into(),
        field: field.into(),
    }
}

#[test]
fn field_of_every_kind_has_offset_and_size() {
    let bytes = every_kind();
    let btf = Btf::parse(&bytes).unwrap();
    let word = u32::try_from(size_of::<usize>()).unwrap();
    for (field, offset, size) in [
        ("int", 0, 4),
        ("pointer", 8, word),
        ("array", 16, 12),
        ("color", 40, 4),
        ("point", 44, 8), // Behind type tag, const, volatile, typedef.
        ("restrict", 56, word),
        ("float", 64, 8),
        ("wide", 72, 8),
    ] {
        assert_eq!(btf.offset("everything", field), Ok(offset), "{field}");
        assert_eq!(btf.size("everything", field), Ok(size), "{field}");
    }
    assert_eq!(
        btf.offset("everything", "incomplete"),
        Err(unfollowed("everything", "incomplete"))
    );
}

#[test]
fn anonymous_members_are_looked_through() {
    let mut sample = Sample::default();
    let int = sample.int("int", 4);
    let inner = sample.structure("", 8, &[("a", int, 0), ("b", int, 4)]);
    let middle = sample.union("", 8, &[("c", int, 0), ("", inner, 0)]);
    sample.structure("outer", 16, &[("d", int, 0), ("", middle, 8)]);
    let bytes = sample.finish();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.offset("outer", "b"), Ok(12));
    assert_eq!(btf.offset("outer", "e"), Err(no_field("outer", "e")));
    assert_eq!(btf.offset("outer", ""), Err(no_field("outer", "")));
}

#[test]
fn path_leads_into_structs_but_not_through_pointers() {
    let bytes = every_kind();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.offset("everything", "point.y"), Ok(48));
    for path in ["point.z", "pointer.x", "point.y.", "point..y"] {
        assert_eq!(
            btf.offset("everything", path),
            Err(no_field("everything", path))
        );
    }
}

#[test]
fn missing_type_is_named() {
    let bytes = every_kind();
    let btf = Btf::parse(&bytes).unwrap();
    // Parts of names, a forward declaration, an integer.
    for name in ["nothing", "poin", "oint", "point_", "unknown", "int"] {
        assert_eq!(btf.offset(name, "x"), Err(BtfError::NoType(name.into())));
    }
}

#[test]
fn bit_field_is_refused_unless_of_whole_bytes() {
    let mut sample = Sample::default();
    let int = sample.int("unsigned int", 4);
    let [three, odd, whole] = ["three", "odd", "whole"].map(|name| sample.name(name));
    // With kind_flag: width in the highest byte.
    let body = [
        three,
        int,
        3 << 24 | 8, // Begins a byte, but does not fill it.
        odd,
        int,
        8 << 24 | 11,
        whole,
        int,
        16 << 24 | 24,
    ];
    sample.add(4, "flags", (true, 3), 8, &body);
    let bytes = sample.finish();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(
        btf.offset("flags", "three"),
        Err(bit_field("flags", "three"))
    );
    assert_eq!(btf.offset("flags", "odd"), Err(bit_field("flags", "odd")));
    assert_eq!(btf.offset("flags", "whole"), Ok(3));
    assert_eq!(btf.size("flags", "whole"), Ok(2));
}

#[test]
fn bit_field_told_by_the_integer_type_is_refused_unless_of_whole_bytes() {
    let mut sample = Sample::default();
    // Offset of the bits in the second byte of the encoding, their number in the lowest.
    let odd = sample.add(1, "int", (false, 0), 4, &[2 << 16 | 3]);
    let whole = sample.add(1, "int", (false, 0), 4, &[8 << 16 | 8]);
    sample.structure("flags", 8, &[("odd", odd, 0), ("whole", whole, 4)]);
    let bytes = sample.finish();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.offset("flags", "odd"), Err(bit_field("flags", "odd")));
    assert_eq!(btf.offset("flags", "whole"), Ok(5));
    assert_eq!(btf.size("flags", "whole"), Ok(1));
}

#[test]
fn types_of_one_name_must_agree_on_the_field() {
    let mut sample = Sample::default();
    let int = sample.int("int", 4);
    sample.structure("twin", 8, &[("same", int, 0), ("moved", int, 4)]);
    sample.structure("twin", 8, &[("same", int, 0), ("only", int, 4)]);
    sample.structure("twin", 12, &[("same", int, 0), ("moved", int, 8)]);
    let bytes = sample.finish();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.offset("twin", "same"), Ok(0));
    assert_eq!(btf.offset("twin", "only"), Ok(4));
    assert_eq!(
        btf.offset("twin", "moved"),
        Err(BtfError::Ambiguous {
            type_name: "twin".into(),
            field: "moved".into()
        })
    );
}

#[test]
fn enumerators_are_found_by_enum_or_without_its_name() {
    let mut sample = Sample::default();
    sample.enumeration("", &[("ONE", 1), ("TWICE", 1)]);
    sample.enumeration("named", &[("TWO", 2), ("ONE", 11)]);
    sample.enumeration("", &[("TWICE", 2)]);
    let bytes = sample.finish();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.enumerator("named", "TWO"), Some(2));
    assert_eq!(btf.enumerator("named", "ONE"), Some(11));
    assert_eq!(btf.enumerator("other", "ONE"), Some(1));
    assert_eq!(btf.enumerator("other", "TWO"), None);
    assert_eq!(btf.enumerator("other", "TWICE"), None, "enums disagree");
}

#[test]
fn enumerators_beyond_32_bits_have_no_value() {
    let bytes = every_kind();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.enumerator("wide", "SMALL"), Some(7));
    assert_eq!(btf.enumerator("wide", "HUGE"), None);
    assert_eq!(btf.enumerator("color", "MINUS"), Some(u32::MAX));
}

#[test]
fn functions_are_found_with_their_parameters() {
    let bytes = every_kind();
    let btf = Btf::parse(&bytes).unwrap();
    assert!(btf.has_function("write"));
    assert!(!btf.has_function("everything"), "a struct");
    assert_eq!(btf.parameters("write"), Some(vec!["fd", "count", ""]));
    assert_eq!(btf.parameters("read"), None);
}

#[test]
fn what_is_not_btf_of_this_machine_is_refused() {
    let bytes = every_kind();
    let error = |bytes: &[u8]| Btf::parse(bytes).unwrap_err();
    assert_eq!(error(b"\x7fELF"), BtfError::NotBtf);
    assert_eq!(error(b""), BtfError::NotBtf);

    let mut swapped = bytes.clone();
    swapped.swap(0, 1);
    assert_eq!(error(&swapped), BtfError::Endianness);

    let mut newer = bytes.clone();
    newer[2] = 2;
    assert_eq!(error(&newer), BtfError::Version(2));
}

#[test]
fn kind_that_is_not_known_is_refused_by_number() {
    let mut sample = Sample::default();
    sample.int("int", 4);
    sample.add(20, "new", (false, 0), 0, &[]);
    let error = Btf::parse(&sample.finish()).unwrap_err();
    assert_eq!(error, BtfError::UnknownKind { kind: 20, id: 2 });
}

#[test]
fn longer_header_of_a_newer_kernel_is_passed_over() {
    let mut bytes = every_kind();
    bytes.splice(4..8, 32u32.to_ne_bytes());
    bytes.splice(24..24, [0; 8]);
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.offset("everything", "wide"), Ok(72));
}

#[test]
fn cut_at_any_byte_it_is_refused() {
    let bytes = every_kind();
    for len in 0..bytes.len() {
        assert!(Btf::parse(&bytes[..len]).is_err(), "{len}");
    }
}

#[test]
fn type_that_contains_itself_ends_the_search() {
    let mut sample = Sample::default();
    let int = sample.int("int", 4);
    let itself = int + 1;
    sample.structure("loop", 8, &[("", itself, 0), ("", itself, 0)]);
    let typedef = itself + 1;
    sample.typedef("typedef", typedef);
    sample.structure("user", 8, &[("field", typedef, 0)]);
    let bytes = sample.finish();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.offset("loop", "x"), Err(unfollowed("loop", "x")));
    assert_eq!(
        btf.offset("user", "field"),
        Err(unfollowed("user", "field"))
    );
}

#[test]
fn no_damage_to_a_byte_or_two_makes_it_panic() {
    let bytes = every_kind();
    let mut survived = 0;
    let mut random = 1u32;
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            fuzz_btf(&damaged);
            // A second one anywhere: a linear congruential generator.
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let other = random as usize >> 8;
            let len = damaged.len();
            damaged[other % len] = random as u8;
            fuzz_btf(&damaged);
            survived += u32::from(Btf::parse(&damaged).is_ok());
        }
    }
    assert!(survived > 1_000, "only {survived} were parsed");
}
