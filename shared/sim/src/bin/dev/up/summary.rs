//! Addresses and example requests, printed once everything is ready.

use dezky_sim::callers::{Caller, DEMO_TENANT};

/// The summary of the running system: its addresses with their labels, and lines that can be copied to a shell. It has no
/// token: the command in it mints one.
pub(super) fn summary(api: &str, shown: &[(&'static str, String)]) -> String {
    let addresses = shown.iter();
    let addresses = addresses.map(|(name, address)| format!("  {name:<12} {address}"));
    let callers = Caller::ALL
        .map(|caller| format!("  {:<21} {}", caller.name(), caller.description()))
        .into_iter();
    let operator = Caller::Operator.name();
    let text = str::to_owned;
    let mut lines = vec![text("\nEverything is up:")];
    lines.extend(addresses);
    lines.extend([
        text("\nRequests of an operator:"),
        format!("export OPERATOR=$(cargo dev token {operator})"),
        format!("curl -sS -H \"authorization: Bearer $OPERATOR\" {api}/tenants/{DEMO_TENANT}"),
        text("\nCallers of `cargo dev token <caller>`, whose tokens are valid for 12 h:"),
    ]);
    lines.extend(callers);
    lines.push(text("\nNext invoice: `cargo dev stripe advance 1mo`."));
    lines.push(text("Stop: Ctrl-C."));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use dezky_sim::callers::console_address;

    use super::*;

    #[test]
    fn the_summary_has_the_addresses_and_the_command_for_a_token() {
        let api = "http://127.0.0.1:3001";
        let shown = [("Console", console_address(api))];

        let text = summary(api, &shown);

        let lines: Vec<&str> = text.lines().collect();
        for line in [
            "  Console      http://127.0.0.1:3001/console",
            "export OPERATOR=$(cargo dev token operator)",
            "curl -sS -H \"authorization: Bearer $OPERATOR\" http://127.0.0.1:3001/tenants/demo",
        ] {
            assert!(lines.contains(&line), "{line}: {text}");
        }
        for caller in Caller::ALL {
            let named = lines
                .iter()
                .filter(|line| line.contains(caller.description()));
            assert_eq!(named.count(), 1, "{caller:?}: {text}");
        }
    }
}
