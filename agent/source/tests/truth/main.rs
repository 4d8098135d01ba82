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
//! `WEIR_TRUTH=1 cargo test -p weir-source --test truth -- --nocapture` also prints the first unexplained flows; with a
//! part of a capture's name for 1, everything about that capture.

mod arkime;
mod capture;
mod engine;
mod inside;
mod ipfixprobe;
mod ndpi;
mod zeek;
