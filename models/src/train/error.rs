use weir_core::profile::ProfileId;

use crate::bundle::BundleError;

/// Why no bundle came of it.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error("there is nothing to train on: give at least one set of rows")]
    NoSets,
    #[error("profile `{profile}` is given twice: join its rows in one set")]
    ProfileTwice { profile: ProfileId },
    #[error("profile `{profile}` has {rows} rows and {infos} row descriptions, expected one per row")]
    RowInfo { profile: ProfileId, rows: usize, infos: usize },
    #[error(
        "profile `{profile}` has {rows} benign rows, at least {min} are needed: record for longer, or train on more"
    )]
    TooFewRows { profile: ProfileId, rows: usize, min: usize },
    #[error(
        "profile `{profile}`: the {rows} rows are too much of a piece, of {blocks} blocks of {seconds} s and source the \
         {part} part got {got} rows: record for longer or from more sources"
    )]
    TooFewBlocks { profile: ProfileId, rows: usize, blocks: usize, seconds: u64, part: &'static str, got: usize },
    #[error("{what} is {value}, expected {expected}")]
    Config { what: &'static str, value: usize, expected: &'static str },
    #[error("the autoencoder of profile `{profile}` diverged (loss {loss}): lower its learning rate")]
    Diverged { profile: ProfileId, loss: f32 },
    #[error("no models were given for profile `{profile}`")]
    NoModels { profile: ProfileId },
    #[error(transparent)]
    Bundle(#[from] BundleError),
}
