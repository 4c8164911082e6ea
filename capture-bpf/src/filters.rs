//! What is left out, decided where it happens: once for each thread and each connection, and again
//! when the filters change.

use aya_ebpf::helpers::generated::bpf_get_current_cgroup_id;
use aya_ebpf::maps::lpm_trie::Key;
use wirespan_capture_abi::{Settings, Tuple, Verdict, filter_flag};

use crate::kernel::{self, UNIX};
use crate::maps::{ADDRESSES, CGROUPS, EXECUTABLES, NAMES, NAMESPACES, PORTS, TGIDS};

/// Whether the current process is observed.
#[inline(always)]
pub fn judge_process(tgid: u32, settings: &Settings) -> Verdict {
    let filters = settings.filters;
    if tgid == settings.own_tgid || filters & filter_flag::EVERYTHING != 0 {
        return Verdict::Ignore;
    }
    if filters & (filter_flag::TGID | filter_flag::NAME | filter_flag::EXECUTABLE) != 0 {
        let by_number = filters & filter_flag::TGID != 0 && TGIDS.get_ptr(tgid).is_some();
        let named = || NAMES.get_ptr(kernel::process_name()).is_some();
        let runs = || EXECUTABLES.get_ptr(kernel::executable()).is_some();
        if !by_number
            && !(filters & filter_flag::NAME != 0 && named())
            && !(filters & filter_flag::EXECUTABLE != 0 && runs())
        {
            return Verdict::Ignore;
        }
    }
    if filters & filter_flag::CGROUP != 0 {
        // SAFETY: has no requirements.
        let cgroup = unsafe { bpf_get_current_cgroup_id() };
        if CGROUPS.get_ptr(cgroup).is_none() {
            return Verdict::Ignore;
        }
    }
    Verdict::Observe
}

/// Whether a connection is left out.
#[inline(always)]
pub fn leaves_out(tuple: &Tuple, filters: u32) -> bool {
    if filters & filter_flag::NETNS != 0 && NAMESPACES.get_ptr(tuple.netns).is_none() {
        return true;
    }
    if tuple.family == UNIX {
        // It has no port, no address, and never leaves the machine.
        return filters & (filter_flag::PORT | filter_flag::CIDR | filter_flag::EXTERNAL_ONLY) != 0;
    }
    if filters & filter_flag::PORT != 0
        && PORTS.get_ptr(tuple.local_port).is_none()
        && PORTS.get_ptr(tuple.remote_port).is_none()
    {
        return true;
    }
    if filters & (filter_flag::CIDR | filter_flag::EXTERNAL_ONLY) == 0 {
        return false;
    }
    if filters & filter_flag::CIDR != 0
        && ADDRESSES.get(Key::new(128, tuple.local)).is_none()
        && ADDRESSES.get(Key::new(128, tuple.remote)).is_none()
    {
        return true;
    }
    filters & filter_flag::EXTERNAL_ONLY != 0
        && (is_loopback(&tuple.remote) || tuple.local == tuple.remote)
}

/// Whether an address is `::1` or in `::ffff:127.0.0.0/104`.
#[inline(always)]
fn is_loopback(address: &[u8; 16]) -> bool {
    let high = u64::from_ne_bytes([
        address[0], address[1], address[2], address[3], address[4], address[5], address[6],
        address[7],
    ]);
    let middle = u32::from_be_bytes([address[8], address[9], address[10], address[11]]);
    let low = u32::from_be_bytes([address[12], address[13], address[14], address[15]]);
    high == 0 && ((middle == 0 && low == 1) || (middle == 0xffff && low >> 24 == 127))
}
