//! `cargo dev up`: the whole system on this machine, with a demo tenant.
//!
//! MongoDB's data and the issuer's keys survive a restart. The simulators start empty, so that every start reconciles
//! all tenants into them.

mod demo;
mod stack;
mod summary;
mod upstreams;

use dezky_sim::callers::Caller;

use self::{
    demo::Demo,
    stack::{Addresses, Stack},
};
use crate::{
    instance::{Claim, Running},
    interrupted, token,
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
    let demo = tokio::select! {
        demo = provision(&addresses) => demo,
        ended = stack.first_end() => return Err(ended),
    };
    if check {
        return demo;
    }
    if let Err(error) = demo {
        println!("  not active: {error:#}");
    }
    summary::print(&addresses, HOURS).await?;
    Err(stack.first_end().await)
}

async fn provision(addresses: &Addresses) -> anyhow::Result<()> {
    let operator = token::mint(&addresses.control, Caller::Operator, HOURS).await?;
    let demo = Demo::new(&addresses.api, operator)?;
    for caller in Caller::ALL {
        // The first request registers a user. Strangers stay unregistered.
        if caller != Caller::Stranger {
            let token = token::mint(&addresses.control, caller, HOURS).await?;
            demo.register(caller, &token).await?;
        }
    }
    demo.ensure().await?;
    let staff = token::mint(&addresses.control, Caller::Partner, HOURS).await?;
    demo.ensure_partner(&staff).await?;
    demo.reconcile_others().await
}
