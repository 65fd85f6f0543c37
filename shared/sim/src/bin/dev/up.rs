//! `cargo dev up`: everything, running on this machine, with a tenant to look at.
//!
//! What MongoDB holds and the issuer's keys survive a restart. The simulators keep their state in memory and begin
//! empty: every tenant is reconciled at every start, which brings it back there.

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

/// How long the tokens that are shown are valid.
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
        Err(_) => println!("\nSomething went wrong. Stopping"),
    }
    tokio::select! {
        () = stack.stop() => println!("Stopped"),
        () = interrupted() => println!("Killed"),
    }
    outcome
}

/// Starts everything and stays with it. Ends by itself only when something is wrong, or when a check is done.
async fn run(stack: &mut Stack, claim: &mut Claim, check: bool) -> anyhow::Result<()> {
    let addresses = stack.start().await?;
    claim.publish(&Running {
        pid: std::process::id(),
        api: Some(addresses.api.clone()),
        control: Some(addresses.control.clone()),
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
        println!("  It is not as it should be: {error:#}");
    }
    summary::print(&addresses, HOURS).await?;
    Err(stack.first_end().await)
}

async fn provision(addresses: &Addresses) -> anyhow::Result<()> {
    let operator = token::mint(&addresses.control, Caller::Operator, HOURS).await?;
    let demo = Demo::new(&addresses.api, operator)?;
    for caller in Caller::ALL {
        // A caller has to introduce itself before it may do anything; strangers never did.
        if caller != Caller::Stranger {
            let token = token::mint(&addresses.control, caller, HOURS).await?;
            demo.introduce(caller, &token).await?;
        }
    }
    demo.ensure().await?;
    let staff = token::mint(&addresses.control, Caller::Partner, HOURS).await?;
    demo.ensure_partner(&staff).await?;
    demo.reconcile_others().await
}
