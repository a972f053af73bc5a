//! `orchestrate schema`.

use super::error::CliError;
use super::output::Output;

pub(super) fn schema() -> Result<(), CliError> {
    let mut out = Output::stdout();
    out.line(format!("{:#}", crate::recipe::schema()))?;
    out.finish()
}
