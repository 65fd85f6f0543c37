//! `cargo dev up`: the whole system on this machine, with a demo tenant.
//!
//! MongoDB's data and the issuer's keys survive a restart. The simulators start empty, so that every start reconciles
//! all tenants into them.

mod stack;
mod summary;
mod upstreams;

use dezky_sim::demo;

use self::stack::Stack;
use crate::{
    instance::{Claim, Running},
    interrupted,
};

/// Validity of the printed tokens, in hours.
const HOURS: u32 = 12;

pub(crate) async fn up(check: bool) -> anyhow::Result<()> {
    let mut claim = Claim::take()?;
    let mut stack = Stack::default();
    let outcome = tokio::select! {
        outcome = run(&mut stack, &mut claim, check) => outcome,
        () = interrupted() => Ok(()),
    };
    match &outcome {
        Ok(()) => println!("\nStopping"),
        Err(_) => println!("\nStopping after an error"),
    }
    tokio::select! {
        () = stack.stop() => println!("Stopped"),
        () = interrupted() => println!("Killed"),
    }
    outcome
}

/// Starts everything and waits. Returns only with an error, or after a check.
async fn run(stack: &mut Stack, claim: &mut Claim, check: bool) -> anyhow::Result<()> {
    let addresses = stack.start().await?;
    claim.publish(&Running {
        pid: std::process::id(),
        api: Some(addresses.api.clone()),
        control: Some(addresses.control.clone()),
        worker: addresses.worker.clone(),
    })?;

    println!("\nThe demo tenant:");
    let say = |line: &str| println!("  {line}");
    let demo = tokio::select! {
        demo = demo::provision(&addresses.api, &addresses.control, Some(&addresses.database), say) => demo,
        ended = stack.first_end() => return Err(ended),
    };
    if check {
        return demo;
    }
    if let Err(error) = demo {
        println!("  not complete: {error:#}");
    }
    summary::print(&addresses, HOURS).await?;
    Err(stack.first_end().await)
}
