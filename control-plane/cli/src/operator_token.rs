//! `bulkhead operator-token`: tokens of those who ask the control plane for something.

use crate::answer::{list, text};
use crate::args::Global;
use crate::client::{Ask, Client};
use crate::exit::Exit;
use crate::fault::Failure;
use crate::get::table;
use crate::output::{Format, Out};
use bulkhead_config::name::TenantId;
use bulkhead_server::operator::Role;
use serde_json::{Value, json};

/// Make, list and revoke tokens of operators
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    New(New),
    /// List the tokens there are, without their secrets
    List,
    /// Revoke a token; it proves nobody from then on
    Revoke {
        /// Its id, from `bulkhead operator-token list`
        id: String,
    },
}

/// Make a token; it is printed once, alone
#[derive(Debug, clap::Args)]
struct New {
    /// Who will use it, as the audit trail tells it
    #[arg(long, value_name = "NAME")]
    name: String,
    /// What it may do: platform-admin, tenant-admin, viewer, auditor
    #[arg(long, value_name = "ROLE")]
    role: Role,
    /// The only tenant it may ask about
    #[arg(long, value_name = "ID")]
    tenant: Option<TenantId>,
    /// How long it is good, for example 12h [default: until it is revoked]
    #[arg(long, value_name = "DURATION")]
    expires_in: Option<String>,
}

pub(crate) fn run(args: &Args, global: &Global, out: &mut Out) -> Result<Exit, Failure> {
    let client = Client::find(global)?;
    match &args.action {
        Action::New(new) => {
            let wanted = json!({
                "name": new.name,
                "role": new.role.as_str(),
                "tenant": new.tenant.as_ref().map(TenantId::as_str),
                "expires_in": new.expires_in,
            });
            let made = client.send(&Ask::post("/v1/tokens", &wanted))?.body;
            match out.format() {
                Format::Json => out.json(&made)?,
                Format::Human => out.say(text(&made, "token").unwrap_or_default())?,
            }
        }
        Action::List => {
            let tokens = client.get("/v1/tokens")?;
            let row = |token: &Value| {
                let said = |key| text(token, key).unwrap_or_default();
                vec![said("id"), said("name"), said("role"), said("tenant"), said("created"), said("expires")]
            };
            match out.format() {
                Format::Json => out.json(&tokens)?,
                Format::Human => {
                    out.raw(&table(&["ID", "NAME", "ROLE", "TENANT", "CREATED", "EXPIRES"], list(&tokens, "items").iter().map(row)))?;
                }
            }
        }
        Action::Revoke { id } => {
            let revoked = client.send(&Ask::delete(&format!("/v1/tokens/{id}")))?.body;
            match out.format() {
                Format::Json => out.json(&revoked)?,
                Format::Human => out.say(format_args!("revoked {id}"))?,
            }
        }
    }
    Ok(Exit::Done)
}
