//! Lines of an invoice.

use dezky_shared::invoice::{InvoiceLine, MAX_LINES};

use super::{Validator, Violation, name};

/// Maximum amount of a line, in minor units, of either sign.
const MAX_AMOUNT: i64 = 1_000_000_000_000;

/// The lines of an invoice, each with a description and an amount in minor units.
pub fn lines(validator: &mut Validator, lines: &[(String, i64)]) -> Option<Vec<InvoiceLine>> {
    validator.check("/lines", count(lines.len()))?;
    let mut valid = Vec::new();
    for (index, (description, amount_minor)) in lines.iter().enumerate() {
        let at = format!("/lines/{index}");
        let description = validator.check(&format!("{at}/description"), name(description));
        let amount_minor = validator.check(&format!("{at}/amountMinor"), amount(*amount_minor));
        if let (Some(description), Some(amount_minor)) = (description, amount_minor) {
            valid.push(InvoiceLine {
                description,
                amount_minor,
                period: None,
            });
        }
    }
    (valid.len() == lines.len()).then_some(valid)
}

fn count(lines: usize) -> Result<(), Violation> {
    if (1..=MAX_LINES).contains(&lines) {
        Ok(())
    } else {
        Err(("out_of_range", format!("Must have 1–{MAX_LINES} lines.")))
    }
}

/// An amount of either sign, in minor units.
pub fn amount(minor: i64) -> Result<i64, Violation> {
    if minor != 0 && (-MAX_AMOUNT..=MAX_AMOUNT).contains(&minor) {
        Ok(minor)
    } else {
        let message = format!("Must be up to {MAX_AMOUNT} in minor units, and not 0.");
        Err(("out_of_range", message))
    }
}

/// The sum of the lines: negative in a correction, otherwise positive.
pub fn total(minor: i64, is_correction: bool) -> Result<(), Violation> {
    let (is_valid, message) = if is_correction {
        (minor < 0, "The sum of a correction must be negative.")
    } else {
        let message = "The sum must be positive. To reduce a paid invoice, name it in corrects.";
        (minor > 0, message)
    };
    if is_valid {
        Ok(())
    } else {
        Err(("invalid_total", message.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_and_checked_one_by_one() {
        let check = |given: &[(String, i64)]| {
            let mut validator = Validator::default();
            let valid = lines(&mut validator, given);
            let errors = validator.into_errors();
            let pointers: Vec<_> = errors.into_iter().filter_map(|it| it.pointer).collect();
            (valid.map_or(0, |valid| valid.len()), pointers)
        };
        let line = |text: &str, amount| (text.to_owned(), amount);

        assert_eq!(
            check(&[line("Setup", 5), line("Discount", -2)]),
            (2, vec![])
        );
        assert_eq!(check(&[]), (0, vec!["/lines".to_owned()]));
        let many = vec![line("Setup", 1); 51];
        assert_eq!(check(&many), (0, vec!["/lines".to_owned()]));
        let bad = check(&[line("", 1), line("Setup", 0), line("Setup", i64::MIN)]);
        let pointers = [
            "/lines/0/description",
            "/lines/1/amountMinor",
            "/lines/2/amountMinor",
        ];
        assert_eq!(bad, (0, pointers.map(str::to_owned).to_vec()));
    }

    #[test]
    fn only_a_correction_has_a_negative_sum() {
        for (minor, is_correction, is_valid) in [
            (1, false, true),
            (0, false, false),
            (-1, false, false),
            (-1, true, true),
            (0, true, false),
            (1, true, false),
        ] {
            assert_eq!(total(minor, is_correction).is_ok(), is_valid, "{minor}");
        }
    }
}
