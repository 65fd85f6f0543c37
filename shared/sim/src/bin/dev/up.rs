//! `cargo dev up`: the whole system on this machine, with a demo tenant.
//!
//! MongoDB's data, the issuer's keys and the objects of the simulated Stripe survive a restart. The other simulators start
//! empty, so that every start reconciles all tenants into them.

mod pictures;
mod stack;
mod summary;
mod upstreams;

use dezky_sim::{demo, workspace};

pub(crate) use self::pictures::pictures;
use self::{stack::Stack, summary::summary};
use crate::{
    instance::{Claim, Running},
    interrupted,
};

pub(crate) async fn up(check: bool) -> anyhow::Result<()> {
    with_stack(async |stack, claim| run(stack, claim, check).await).await?;
    Ok(())
}

/// Does the work with a stack that is stopped afterwards. `None` if a signal ended the work.
async fn with_stack<T>(
    work: impl AsyncFnOnce(&mut Stack, &mut Claim) -> anyhow::Result<T>,
) -> anyhow::Result<Option<T>> {
    let mut claim = Claim::take()?;
    let mut stack = Stack::default();
    let outcome = tokio::select! {
        outcome = work(&mut stack, &mut claim) => outcome.map(Some),
        () = interrupted() => Ok(None),
    };
    match &outcome {
        Ok(_) => println!("\nStopping"),
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
    let addresses = stack.start(&workspace::dev()).await?;
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
        demo?;
        return tokio::select! {
            verified = demo::verify_renewal(&addresses.api, &addresses.control, say) => verified,
            ended = stack.first_end() => Err(ended),
        };
    }
    if let Err(error) = demo {
        println!("  not complete: {error:#}");
    }
    println!("{}", summary(&addresses.api, &addresses.shown));
    Err(stack.first_end().await)
}
