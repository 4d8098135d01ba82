//! What else the source of a flow was doing: the five context features of profile `full`.

/// What the client of a flow began in the last 10 seconds.
///
/// Features only: no decision may follow from them for a single flow, because anyone can raise the counts of an innocent
/// source by flows forged in its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Context {
    /// Flows that the source began.
    pub flows: u32,
    /// Distinct server ports of these.
    pub ports: u32,
    /// Distinct server addresses.
    pub hosts: u32,
    /// Flows without a packet back so far.
    pub unanswered: u32,
    /// Flows to the same server address and port as this flow's.
    pub same_service: u32,
}
