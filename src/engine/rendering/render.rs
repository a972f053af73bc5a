//! Rendering within limits of steps and of size.

use super::watch::Watched;
use minijinja::{Error, ErrorKind, Template, Value};
use std::io::{self, Write};

/// Steps a template may take: rendering ends, whatever the template does.
pub(crate) const FUEL: u64 = 1_000_000;

/// Bytes that a template may write; more tokens than any context holds.
const MAX_BYTES: usize = 16 << 20;

/// What `template` makes of `context`.
///
/// # Errors
/// As minijinja's `render`; a template that takes too many steps or writes too much.
pub(crate) fn render(template: &Template<'_, '_>, context: Value) -> Result<String, Error> {
    let _watched = Watched::new();
    let mut out = Bounded(Vec::new());
    let rendered = template.render_captured_to(context, &mut out).map(|_| ());
    if out.0.len() > MAX_BYTES {
        let message = format!("it writes more than {} MiB", MAX_BYTES >> 20);
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    rendered?;
    Ok(String::from_utf8(out.0).expect("templates write text"))
}

/// Refuses what goes beyond the limit, before it takes memory.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = (MAX_BYTES + 1).saturating_sub(self.0.len()); // one more, by which `render` knows
        self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if bytes.len() > room { Err(io::Error::other("too long")) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::{Environment, context};

    fn rendered(source: &str) -> Result<String, Error> {
        let mut environment = Environment::new();
        environment.set_fuel(Some(FUEL));
        render(&environment.template_from_str(source).unwrap(), context! { x => "x" })
    }

    #[test]
    fn text_comes_out_as_it_is() {
        assert_eq!(rendered("a{{ x }}ä").unwrap(), "axä");
        let long = rendered("{{ x * 16777216 }}").unwrap();
        assert_eq!(long.len(), MAX_BYTES);
    }

    #[test]
    fn a_template_that_wants_the_whole_memory_ends_in_an_error() {
        for source in [
            "{{ 'x' * 10**9 }}",
            "{{ x * 16777217 }}",
            "{{ 'x' * 10**18 }}",
            "{{ range(10**9) }}",
            "{{ [x] * 10**9 }}",
            "{% for i in range(10000) %}{{ 'x' * 10000 }}{% endfor %}",
            "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
            "{{ range(100000)|list|string * 1000 }}",
        ] {
            assert!(rendered(source).is_err(), "{source}");
        }
        let error = rendered("{{ x * 20000000 }}").unwrap_err();
        assert!(error.to_string().contains("more than 16 MiB"), "{error}");
    }
}
