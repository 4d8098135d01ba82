//! What Weir makes of captures, flow by flow, against what other tools made of the same captures.
//!
//! ```text
//! capture -> Weir's records ----------------------\
//!         \-> packets -> the tool's rules -> flows --+-> equal / different by a named rule / unexplained
//! the tool's own flows -----------------------------/
//! ```
//!
//! A rule is something that the tool does with packets and Weir does otherwise: it leaves some out, looks into tunnels,
//! gives ICMP no ports. It explains a flow only where the packets that Weir read, taken as the rule says, come to the
//! tool's numbers exactly. So no rule can excuse a wrong count, and no capture is named anywhere.
//!
//! `cargo test -p weir-source --test truth` prints the tables. With `WEIR_TRUTH=1` it also prints the flows that no rule
//! explains, with a part of a rule in place of 1 those that it explains, and with a capture's name all of that capture.

mod arkime;
mod capture;
mod case;
mod engine;
mod inside;
mod ipfixprobe;
mod ndpi;
mod softflowd;
mod table;
mod zeek;
