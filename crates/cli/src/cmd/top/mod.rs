//! `pilotage top`: what runs, live.

mod screen;
mod views;

use std::io::IsTerminal as _;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::admin::Admin;
use crate::args::Top;
use crate::output::{self, Format};
use screen::{Key, Screen};
use views::View;

/// Seconds that rates are over.
const RATE_SECONDS: u64 = 30;

/// Looks once, or until it is left.
pub(crate) async fn run(args: Top) -> anyhow::Result<()> {
    let admin = Admin::new(&args.reach)?;
    if args.output == Format::Json {
        return output::json(&look(&admin).await?);
    }
    if args.once || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        let seen = look(&admin).await?;
        for view in View::ALL {
            output::line(&views::page(view, &seen, usize::MAX).join("\n"));
            output::line("");
        }
        return Ok(());
    }
    watch(&admin, Duration::from_secs(args.interval)).await
}

/// One look at everything.
async fn look(admin: &Admin) -> anyhow::Result<Value> {
    let rates = format!("/history?seconds={RATE_SECONDS}");
    let (status, live, history) =
        tokio::try_join!(admin.get("/status"), admin.get("/live?limit=200"), admin.get(&rates))?;
    Ok(json!({"url": admin.url(), "status": status, "live": live, "history": history}))
}

async fn watch(admin: &Admin, interval: Duration) -> anyhow::Result<()> {
    // The first look fails before the screen is taken.
    let mut seen = look(admin).await?;
    let (told, mut keys) = mpsc::unbounded_channel();
    let screen = Screen::open(told)?;
    let (mut view, mut is_paused, mut trouble) = (View::Models, false, None);
    let mut ticks = tokio::time::interval(interval);
    loop {
        screen.draw(&seen, view, is_paused, trouble.as_deref());
        tokio::select! {
            _ = ticks.tick(), if !is_paused => match look(admin).await {
                Ok(next) => (seen, trouble) = (next, None),
                Err(error) => trouble = Some(format!("{error:#}")),
            },
            key = keys.recv() => match key {
                None | Some(Key::Quit) => return Ok(()),
                Some(Key::Pause) => is_paused = !is_paused,
                Some(Key::Next) => view = view.next(),
                Some(Key::View(at)) => view = View::ALL.get(at).copied().unwrap_or(view),
            },
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}
