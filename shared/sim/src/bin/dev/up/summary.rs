//! Addresses and example requests, printed once everything is ready.

use dezky_sim::callers::{Caller, DEMO_TENANT, mint};

use super::stack::Addresses;

pub(super) async fn print(addresses: &Addresses, hours: u32) -> anyhow::Result<()> {
    println!("\nEverything is up:");
    for (name, address) in &addresses.shown {
        println!("  {name:<12} {address}");
    }
    println!("\nExample requests, with tokens valid for {hours} h:");
    for caller in Caller::ALL {
        let token = mint(&addresses.control, caller, hours).await?;
        let path = match caller {
            Caller::Stranger | Caller::OperatorWithoutFlag => "/users/me".to_owned(),
            Caller::Partner => "/partner/tenants".to_owned(),
            Caller::Member | Caller::Owner | Caller::Operator => format!("/tenants/{DEMO_TENANT}"),
        };
        println!("\n# {}: {}", caller.name(), caller.description());
        println!(
            "curl -sS -H 'authorization: Bearer {token}' {}{path}",
            addresses.api
        );
    }
    println!(
        "\nMore tokens: `cargo dev token <caller>`. Next invoice: `cargo dev stripe advance 1mo`."
    );
    println!("Stop: Ctrl-C.");
    Ok(())
}
