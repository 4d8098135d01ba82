//! Ranges of addresses as the prefixes that cover them and nothing else.

use std::net::IpAddr;

use weir_core::addr::{Addr, Prefix};

/// From the first to the last address, both with it.
pub fn prefixes(first: &str, last: &str) -> Result<Vec<Prefix>, String> {
    let parse =
        |s: &str| s.trim().parse::<IpAddr>().map(Addr::from).map_err(|_| format!("`{}` is no address", s.trim()));
    let (from, to) = (parse(first)?, parse(last)?);
    if from.is_v4() != to.is_v4() {
        return Err("the two ends of a range are of one family".to_owned());
    }
    let (mut at, end) = (u128::from_be_bytes(from.0), u128::from_be_bytes(to.0));
    if at > end {
        return Err("the range ends before it begins".to_owned());
    }
    let width = if from.is_v4() { 32 } else { 128 };
    let mut all = Vec::new();
    loop {
        // As wide as where it begins and where it ends allow.
        let free = (end - at).checked_add(1).map_or(128, |n| 127 - n.leading_zeros());
        let host = at.trailing_zeros().min(free).min(width);
        all.push(Prefix::new(Addr(at.to_be_bytes()), (width - host) as u8));
        match 1u128.checked_shl(host).and_then(|size| at.checked_add(size)) {
            Some(next) if next <= end => at = next,
            _ => return Ok(all),
        }
    }
}
