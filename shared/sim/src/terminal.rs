//! Terminal output.

use std::{env, ffi::OsStr, io::IsTerminal};

/// Whether output to `stream` may contain colour codes: on a terminal, unless `NO_COLOR` is set (<https://no-color.org>).
pub fn supports_color(stream: &impl IsTerminal) -> bool {
    allows_color(env::var_os("NO_COLOR").as_deref()) && stream.is_terminal()
}

fn allows_color(no_color: Option<&OsStr>) -> bool {
    no_color.is_none_or(OsStr::is_empty)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_file_gets_no_colour_codes() {
        assert!(!supports_color(&File::open("/dev/null").unwrap()));
    }

    #[test]
    fn no_color_disables_colour_codes_unless_it_is_empty() {
        assert!(allows_color(None));
        assert!(allows_color(Some(OsStr::new(""))));
        assert!(!allows_color(Some(OsStr::new("1"))));
    }
}
