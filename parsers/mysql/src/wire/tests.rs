use super::*;
use alloc::vec::Vec;

#[test]
fn a_header_is_a_length_and_a_sequence_id() {
    let read = header(&[0x01, 0x02, 0x03, 9, 0xFF]);
    assert_eq!(
        read,
        Some(Header {
            len: 0x03_02_01,
            seq: 9
        })
    );
    assert_eq!(read.map(Header::total), Some(0x03_02_05));
    assert_eq!(header(&[1, 0, 0]), None);
}

#[test]
fn integers_are_as_long_as_their_first_byte_says() {
    for (bytes, value) in [
        (&[0xFA][..], 0xFA),
        (&[0xFC, 0x01, 0x02], 0x0201),
        (&[0xFD, 0x01, 0x02, 0x03], 0x03_0201),
        (&[0xFE, 1, 0, 0, 0, 0, 0, 0, 0x80], 0x8000_0000_0000_0001),
    ] {
        assert_eq!(read(bytes, lenenc), Some(value));
        assert_eq!(read(&bytes[..bytes.len() - 1], lenenc), None);
    }
    assert_eq!(read(&[0xFB], lenenc), None);
    assert_eq!(read(&[0xFF; 9], lenenc), None);
}

#[test]
fn a_text_longer_than_what_is_visible_is_none() {
    assert_eq!(
        read(
            &[0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0],
            text
        ),
        None
    );
    assert_eq!(read(b"\x02abc", text), Some(&b"ab"[..]));
}

#[test]
fn a_greeting_of_protocol_4_0_has_low_capabilities_only() {
    let mut bytes: Vec<u8> = b"\x0a4.0.30\0".to_vec();
    bytes.extend([7, 0, 0, 0]);
    bytes.extend(b"saltsalt\0\x2c\xa2");
    let expected = Greeting {
        is_mariadb: false,
        capabilities: 0xA22C,
    };
    assert_eq!(greeting(&bytes), Some(expected));
    assert_eq!(greeting(&bytes[..bytes.len() - 1]), None);
}

#[test]
fn the_schema_of_a_login_is_found_behind_the_authentication() {
    for (flags, auth) in [
        (0, &b"scramble\0"[..]),
        (capability::SECURE_CONNECTION, b"\x03\0\0\0"),
        (capability::PLUGIN_AUTH_LENENC, b"\xFC\x02\x00\0\0"),
    ] {
        let flags = flags | capability::PROTOCOL_41 | capability::CONNECT_WITH_DB;
        let mut bytes = flags.to_le_bytes().to_vec();
        bytes.extend([0; 5 + 23]);
        bytes.extend(b"me\0");
        bytes.extend(auth);
        bytes.extend(b"shop\0");
        let expected = Login {
            capabilities: flags,
            schema: Some(b"shop"),
        };
        assert_eq!(login(&bytes), Some(expected));
    }
}

#[test]
fn a_login_with_bytes_in_its_reserved_place_is_none() {
    let mut bytes = capability::PROTOCOL_41.to_le_bytes().to_vec();
    bytes.extend([0; 28]);
    assert!(login(&bytes).is_some());
    bytes[20] = 1;
    assert_eq!(login(&bytes), None);
}

#[test]
fn an_ok_packet_has_a_status_behind_two_counts() {
    let done = ok(&[0xFC, 0x10, 0x27, 5, 0x0A, 0, 0, 0]);
    assert_eq!(
        done,
        Some(Done {
            status: 0x0A,
            schema: None
        })
    );
    assert_eq!(ok(&[0, 0, 2]), None);
}

#[test]
fn the_schema_is_found_among_changes_of_the_session() {
    // Status, warnings, no message; autocommit changed, then the schema.
    let changes = b"\x00\x0e\x0aautocommit\x02ON\x01\x05\x04shop";
    let mut bytes = Vec::from(&b"\0\0\x02\x40\0\0\0"[..]);
    bytes.push(changes.len() as u8);
    bytes.extend(changes);
    assert_eq!(ok(&bytes).and_then(|done| done.schema), Some(&b"shop"[..]));
}

#[test]
fn an_err_packet_may_lack_its_sqlstate() {
    let with = failure(b"\x26\x04#23000Duplicate");
    assert_eq!(
        with,
        Some(Failure {
            number: 1062,
            sqlstate: Some("23000")
        })
    );
    let without = failure(b"\x10\x04Too many connections");
    assert_eq!(
        without,
        Some(Failure {
            number: 1040,
            sqlstate: None
        })
    );
    assert_eq!(failure(b"\x10"), None);
}

#[test]
fn a_column_count_is_all_there_is_in_its_packet() {
    assert_eq!(
        columns(&[3]),
        Some(Columns {
            count: 3,
            defined: true
        })
    );
    assert_eq!(
        columns(&[3, 0]),
        Some(Columns {
            count: 3,
            defined: false
        })
    );
    assert_eq!(
        columns(&[0xFC, 0, 1, 1]),
        Some(Columns {
            count: 256,
            defined: true
        })
    );
    for bytes in [
        &[0][..],
        &[3, 2],
        &[3, 1, 1],
        &[0xFE, 0, 0, 0, 0, 0, 0, 0, 1],
    ] {
        assert_eq!(columns(bytes), None);
    }
}

#[test]
fn a_prepared_statement_without_metadata_announces_no_definitions() {
    let head = [7, 0, 0, 0, 2, 0, 1, 0, 0, 0, 0];
    let full = Prepared {
        id: 7,
        columns: 2,
        parameters: 1,
    };
    assert_eq!(prepared(&head), Some(full));
    let bare = Prepared {
        columns: 0,
        parameters: 0,
        ..full
    };
    assert_eq!(prepared(&[&head[..], &[0]].concat()), Some(bare));
}

#[test]
fn values_of_all_types_are_walked_over_to_find_the_text() {
    // Names of one letter; tiny, short, long, long long, time of five bytes, null, blob.
    let kinds = [1u8, 2, 3, 8, 11, 6, 252];
    let mut bytes = alloc::vec![7, 1, 0b0010_0000, 1];
    for kind in kinds {
        bytes.extend([kind, 0, 1, b'n']);
    }
    bytes.extend([0; 1 + 2 + 4 + 8]);
    bytes.extend(b"\x05time!\x04blobSELECT 1");
    let expected = Query {
        text: b"SELECT 1",
        traceparent: None,
    };
    assert_eq!(query(&bytes), Some(expected));
    assert_eq!(query(&bytes[..40]), None);
}

#[test]
fn zstd_header_tells_window_and_content() {
    // One segment: the window is the content. Its length is a byte, or two beyond 256.
    let header = zstd_header(b"\x28\xB5\x2F\xFD\x20\x80").unwrap();
    assert_eq!(
        (header.len, header.window, header.content),
        (6, 128, Some(128))
    );
    let header = zstd_header(b"\x28\xB5\x2F\xFD\x60\x01\x01").unwrap();
    assert_eq!((header.len, header.content), (7, Some(0x101 + 256)));
    // A window of 2^21 bytes and five eighths, a length of four bytes, a checksum.
    let header = zstd_header(b"\x28\xB5\x2F\xFD\x84\x5D\0\0\x40\0behind").unwrap();
    assert_eq!((header.len, header.window), (10, (2 << 20) / 8 * 13));
    assert_eq!((header.content, header.has_checksum), (Some(4 << 20), true));
    assert_eq!(zstd_header(b"\x28\xB5\x2F\xFD\x84\x5D\0\0\x40"), None);
    assert_eq!(zstd_header(b"\x28\xB5\x2F\xFE\x20\x80"), None);
}

#[test]
fn zstd_block_of_one_repeated_byte_has_one_byte() {
    let block = zstd_block(b"\x03\0\x10a").unwrap();
    assert_eq!(
        (block.is_last, block.size, block.payload),
        (true, 128 << 10, 1)
    );
    let block = zstd_block(b"\x28\0\0hello").unwrap();
    assert_eq!((block.is_last, block.size, block.payload), (false, 5, 5));
    assert_eq!(zstd_block(b"\x28\0"), None);
}
