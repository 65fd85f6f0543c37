//! How workspaces and portals look.

/// The colour in which text on `accent` (`#rrggbb`) can be read: black on what is bright, white on what is dark.
///
/// Bright is a YIQ brightness, `(299 R + 587 G + 114 B) / 1000`, of 128 or more
/// (<https://www.w3.org/TR/AERT/#color-contrast>).
pub fn text_color(accent: &str) -> &'static str {
    let part = |at: usize| {
        let digits = accent.get(at..at + 2);
        digits
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .unwrap_or(0)
    };
    let brightness = 299 * part(1) + 587 * part(3) + 114 * part(5);
    if brightness >= 128_000 {
        "#000000"
    } else {
        "#ffffff"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_black_on_bright_colors_and_white_on_dark_ones() {
        for (accent, text) in [
            ("#ffffff", "#000000"),
            ("#000000", "#ffffff"),
            ("#808080", "#000000"),
            ("#7f7f7f", "#ffffff"),
            ("#00ff00", "#000000"),
            ("#ff0000", "#ffffff"),
            ("#0000ff", "#ffffff"),
        ] {
            assert_eq!(text_color(accent), text, "{accent}");
        }
    }
}
