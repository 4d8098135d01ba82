//! `weir audit`: who changed what.

use weir_core::record::TimeUs;

use super::args::AuditCmd;
use super::history::since_us;
use super::output::{Output, Table, relative};
use crate::api::client::Client;
use crate::clock::wall_us;
use crate::store::AuditLine;

pub async fn run(client: &mut Client, command: &AuditCmd, out: &Output) -> anyhow::Result<()> {
    let AuditCmd::List(span) = command;
    let now = wall_us();
    let lines = client.audit(since_us(span, now), span.limit).await?;
    Ok(out.list(&lines, |l| table(l, now))?)
}

fn table(lines: &[AuditLine], now: TimeUs) -> String {
    if lines.is_empty() {
        return "nobody changed anything\n".into();
    }
    let mut t = Table::new(&["WHEN", "WHO", "CALL", "ABOUT", "RESULT"]);
    for a in lines {
        let result = if a.ok { a.result.clone() } else { format!("refused: {}", a.result) };
        t.row(vec![relative(a.time.0, now), a.caller.clone(), a.call.clone(), a.subject.clone(), result]);
    }
    t.render()
}
