//! `cdrd token`: which programs may ask for something over HTTP. A token is shown once, when it is made.

use super::asking::Asking;
use super::bar::Bar;
use super::screen::Screen;
use super::{Exit, Loaded};
use crate::daemon::tasks::{Done, Task, TokenTask};
use serde_json::json;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Make a token and show it, this once
    #[command(after_help = "Example: cdrd token add crm")]
    Add {
        /// What to call it
        name: String,
    },
    /// List the tokens that are good
    #[command(after_help = "Example: cdrd token list")]
    List {
        /// One JSON object per token
        #[arg(long)]
        json: bool,
    },
    /// Let a token in no more
    #[command(after_help = "Example: cdrd token revoke crm")]
    Revoke {
        /// What it is called
        name: String,
    },
}

/// Makes, lists or revokes.
pub fn run(args: &Args, loaded: &Loaded, screen: &mut Screen) -> anyhow::Result<Exit> {
    let asking = Asking::start(loaded)?;
    let ask = |wish: TokenTask| {
        let bar = Bar::start(0);
        let done = asking.perform(Task::Token(wish), None, &bar, 0);
        bar.finish();
        done
    };
    let done = match &args.what {
        What::Add { name } => {
            let secret: [u8; 32] = rand::random();
            let token = format!("cdrd_{}", blake3::Hash::from_bytes(secret).to_hex());
            let hash = *blake3::hash(token.as_bytes()).as_bytes();
            let done = ask(TokenTask::Add { name: name.clone(), hash });
            asking.close();
            done?;
            screen.line(&token)?;
            return Ok(Exit::Done);
        }
        What::List { .. } => ask(TokenTask::List),
        What::Revoke { name } => ask(TokenTask::Revoke { name: name.clone() }),
    };
    asking.close();
    let Done::Tokens(tokens) = done? else { return Ok(Exit::Failed) };
    match &args.what {
        What::List { json: true } => {
            for (name, made_at) in tokens {
                screen.json_value(&json!({"name": name, "made_at": made_at}))?;
            }
        }
        What::List { .. } => {
            let rows: Vec<_> = tokens.into_iter().map(|(name, made_at)| vec![name, made_at]).collect();
            screen.table(&["name", "made (UTC)"], &rows)?;
        }
        What::Add { .. } | What::Revoke { .. } => {}
    }
    Ok(Exit::Done)
}
