//! `carnet key rewrap`.

use std::path::PathBuf;

use clap::Args;

use crate::carnet::Carnet;
use crate::cli::failure::Failure;
use crate::cli::output;

/// May be called again after a crash, and goes on where it stopped. Servers may run meanwhile.
#[derive(Debug, Args)]
pub(in crate::cli) struct Rewrap {
    /// The new master key; made if the file is not there
    #[arg(long, value_name = "FILE")]
    new_key_file: PathBuf,
}

pub(super) async fn run(carnet: &Carnet, arguments: Rewrap) -> Result<(), Failure> {
    let (id, sealed) = carnet.rewrap(&arguments.new_key_file, &super::actor()).await?;
    let database = carnet.store().url();
    for row in sealed.iter().flatten() {
        output::note(&format!(
            "The row {} of {} failed its MAC: something other than carnet wrote it. It stays invalid.",
            row.row, row.table
        ));
    }
    output::note(&if sealed.is_some() {
        format!("The database {database} is sealed with the master key {id} now.")
    } else {
        format!("Nothing to seal: the database {database} is sealed with the master key {id} already.")
    });
    if carnet.master_key_is_a_file() {
        output::note(&format!(
            "CARNET_MASTER_KEY_FILE must name {} from the next start on.",
            arguments.new_key_file.display()
        ));
    } else {
        output::note(
            "It stands in the keys folder as master.key; the old one stays beside it under its identifier. Remove \
             that one when no backup needs it any more.",
        );
    }
    super::tell_erasure(carnet).await
}
