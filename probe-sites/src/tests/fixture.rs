//! Small ELF files, made in memory.

use iced_x86::code_asm::CodeAssembler;

use crate::scan::{Function, Scan};

/// Where the code is in the file, and where it is loaded: a difference as real files have.
pub(super) const CODE_OFFSET: u64 = 0x200;
pub(super) const CODE: u64 = 0x40_1000;
const DATA: u64 = 0x60_0000;

/// An ELF file to be.
pub(super) struct Fixture {
    pub(super) machine: u16,
    pub(super) code: Vec<u8>,
    /// Loaded behind the code, readable and writable.
    pub(super) data: Vec<u8>,
    /// Name, offset in the code, size.
    pub(super) functions: Vec<(&'static str, u64, u64)>,
    /// Name and range in the data.
    pub(super) sections: Vec<(&'static str, std::ops::Range<usize>)>,
}

impl Fixture {
    pub(super) fn new(code: Vec<u8>) -> Self {
        Self {
            machine: 62,
            code,
            data: Vec::new(),
            functions: Vec::new(),
            sections: Vec::new(),
        }
    }

    /// One function, which is all of the code.
    pub(super) fn of(name: &'static str, write: impl FnOnce(&mut CodeAssembler)) -> Self {
        let code = assemble(write);
        let size = code.len() as u64;
        let mut fixture = Self::new(code);
        fixture.functions.push((name, 0, size));
        fixture
    }

    /// Address of a place in the data.
    pub(super) fn data_address(at: usize) -> u64 {
        DATA + at as u64
    }

    /// The file: header, two program headers, code, data, tables, section headers.
    pub(super) fn file(&self) -> Vec<u8> {
        let mut file = vec![0; 64 + 2 * 56];
        file.resize(CODE_OFFSET as usize, 0);
        file.extend(&self.code);
        file.resize(file.len().next_multiple_of(16), 0);
        let data_offset = file.len();
        file.extend(&self.data);
        let (symbols, strings) = self.symbols();
        let mut headers = vec![[0; 10]];
        let mut names = vec![0];
        let mut section = |name: &str, fields: [u64; 9]| {
            let mut header = [0; 10];
            header[0] = names.len() as u64;
            header[1..].copy_from_slice(&fields);
            names.extend(name.as_bytes());
            names.push(0);
            headers.push(header);
        };
        // Type, flags, address, offset, size, link, info, alignment, entry size.
        section(
            ".text",
            [1, 6, CODE, CODE_OFFSET, self.code.len() as u64, 0, 0, 16, 0],
        );
        for (name, range) in &self.sections {
            let offset = (data_offset + range.start) as u64;
            let size = range.len() as u64;
            section(
                name,
                [
                    1,
                    2,
                    Self::data_address(range.start),
                    offset,
                    size,
                    0,
                    0,
                    8,
                    0,
                ],
            );
        }
        let link = 3 + self.sections.len() as u64;
        section(
            ".symtab",
            [
                2,
                0,
                0,
                file.len() as u64,
                symbols.len() as u64,
                link,
                1,
                8,
                24,
            ],
        );
        file.extend(&symbols);
        section(
            ".strtab",
            [3, 0, 0, file.len() as u64, strings.len() as u64, 0, 0, 1, 0],
        );
        file.extend(&strings);
        section(".shstrtab", [3, 0, 0, file.len() as u64, 0, 0, 0, 1, 0]);
        headers.last_mut().unwrap()[5] = names.len() as u64;
        file.extend(&names);
        let table = file.len() as u64;
        for header in &headers {
            file.extend((header[0] as u32).to_le_bytes());
            file.extend((header[1] as u32).to_le_bytes());
            file.extend(header[2..6].iter().flat_map(|word| word.to_le_bytes()));
            file.extend((header[6] as u32).to_le_bytes());
            file.extend((header[7] as u32).to_le_bytes());
            file.extend(header[8..].iter().flat_map(|word| word.to_le_bytes()));
        }
        self.headers(&mut file, data_offset as u64, table, headers.len() as u16);
        file
    }

    fn headers(&self, file: &mut [u8], data_offset: u64, table: u64, sections: u16) {
        let mut head = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        head.extend(3_u16.to_le_bytes());
        head.extend(self.machine.to_le_bytes());
        head.extend(1_u32.to_le_bytes());
        head.extend([CODE, 64, table].iter().flat_map(|word| word.to_le_bytes()));
        head.extend(0_u32.to_le_bytes());
        head.extend(
            [64, 56, 2, 64, sections, sections - 1]
                .iter()
                .flat_map(|it: &u16| it.to_le_bytes()),
        );
        let code = self.code.len() as u64;
        let data = self.data.len() as u64;
        for (flags, offset, address, size) in [
            (5_u32, CODE_OFFSET, CODE, code),
            (6, data_offset, DATA, data),
        ] {
            head.extend(1_u32.to_le_bytes());
            head.extend(flags.to_le_bytes());
            let words = [offset, address, address, size, size, 0x1000];
            head.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        }
        file[..head.len()].copy_from_slice(&head);
    }

    fn symbols(&self) -> (Vec<u8>, Vec<u8>) {
        let mut symbols = vec![0; 24];
        let mut strings = vec![0];
        for (name, at, size) in &self.functions {
            symbols.extend((strings.len() as u32).to_le_bytes());
            symbols.extend([0x12, 0, 1, 0]); // A global function in section 1.
            symbols.extend((CODE + at).to_le_bytes());
            symbols.extend(size.to_le_bytes());
            strings.extend(name.as_bytes());
            strings.push(0);
        }
        (symbols, strings)
    }

    pub(super) fn scan(&self) -> Scan {
        crate::scan(&self.file())
    }

    /// The only function that is found.
    pub(super) fn function(&self) -> Function {
        let scan = self.scan();
        assert_eq!(scan.found.len(), 1, "{scan}");
        assert_eq!(scan.found[0].functions.len(), 1, "{scan}");
        scan.found[0].functions[0].clone()
    }
}

/// The bytes of some code at [`CODE`].
pub(super) fn assemble(write: impl FnOnce(&mut CodeAssembler)) -> Vec<u8> {
    let mut assembler = CodeAssembler::new(64).unwrap();
    write(&mut assembler);
    assembler.assemble(CODE).unwrap()
}
