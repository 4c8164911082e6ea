//! What is found in a kernel's BTF: `cargo run -p wirespan-capture --example offsets -- FILE...`,
//! without files of the running kernel. For reports about kernels that are refused.

use std::{env, error::Error, fs, time::Instant};

use wirespan_capture::btf::Btf;
use wirespan_capture::offsets::offsets;

fn main() -> Result<(), Box<dyn Error>> {
    let mut files: Vec<_> = env::args_os().skip(1).collect();
    if files.is_empty() {
        files.push("/sys/kernel/btf/vmlinux".into());
    }
    for file in files {
        let bytes = fs::read(&file)?;
        let start = Instant::now();
        let btf = Btf::parse(&bytes)?;
        let parsed = start.elapsed();
        let offsets = offsets(&btf)?;
        println!("{} {offsets:#?}", file.display());
        for function in ["tcp_sendmsg", "tcp_recvmsg", "tcp_sendpage"] {
            println!("{function}: {:?}", btf.parameters(function));
        }
        println!("parsed in {parsed:?}, all in {:?}", start.elapsed());
    }
    Ok(())
}
