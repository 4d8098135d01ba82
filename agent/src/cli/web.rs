//! `weir web login`: a link that lets somebody into the web page once.

use clap::Subcommand;
use serde_json::json;
use weir_core::render::Rfc3339;

use super::args::RoleName;
use super::output::{Output, clean};
use crate::api::client::{Client, ClientError};
use crate::command::Role;
use crate::proto as pb;

#[derive(Debug, Subcommand)]
pub enum WebCmd {
    /// Print a link that logs in to the web page: good once, for two minutes
    Login {
        /// viewer: may look; operator: may change what is enforced [default: `web.role` of the configuration]
        #[arg(long, value_enum)]
        role: Option<RoleName>,
        /// Who logs in, as the audit will have it [default: your user name]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
}

pub async fn run(client: &mut Client, command: WebCmd, out: &Output) -> anyhow::Result<()> {
    let WebCmd::Login { role, name } = command;
    let role = match role.map(Role::from) {
        None => pb::WebRole::Unspecified,
        Some(Role::Viewer) => pb::WebRole::Viewer,
        Some(Role::Operator) => pb::WebRole::Operator,
    };
    let request = pb::CreateWebLoginRequest { name: name.unwrap_or_default(), role: role.into() };
    let login = client.grpc().create_web_login(request).await.map_err(ClientError::from)?.into_inner();
    let role = match login.role() {
        pb::WebRole::Viewer => "viewer",
        pb::WebRole::Operator => "operator",
        pb::WebRole::Unspecified => "",
    };
    if out.json() {
        let expires = Rfc3339(login.expires_us);
        return Ok(out.object(&json!({ "url": login.url, "expires": expires, "name": login.name, "role": role }))?);
    }
    let words = format!("good once, for two minutes, for {} as {role}", clean(&login.name));
    Ok(out.text(&format!("{}\n{words}\n", clean(&login.url)))?)
}
