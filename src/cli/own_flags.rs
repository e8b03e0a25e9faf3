//! The flags for the fields that only some types of feed have, from the declarations of the providers.

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use serde_json::Value;

use super::failure::CommandFailure;
use crate::feed::FeedType;
use crate::feed::declaration::{Field, Presence};
use crate::feed::provider_fields::ProviderFields;

/// Adds the flags for the fields of a new feed of this type.
pub(super) fn add_to(command: Command, feed_type: FeedType) -> Command {
    feed_type.fields().iter().fold(command, |command, field| {
        let help = match field.presence {
            Presence::Required => field.description.to_owned(),
            Presence::Default(default) => format!("{} [default: {}]", field.description, default()),
            Presence::Optional { absent, .. } => format!("{} [default: {absent}]", field.description),
        };
        command.arg(flag(field).help(help).required(matches!(field.presence, Presence::Required)))
    })
}

/// Returns the fields that are given by the flags of [`add_to`].
pub(super) fn given(feed_type: FeedType, matches: &ArgMatches) -> Result<ProviderFields, clap::Error> {
    let mut fields = ProviderFields::default();
    for field in feed_type.fields() {
        set(&mut fields, field, matches)?;
    }
    Ok(fields)
}

/// The flags for the fields of all types, each optional, and for the removal of those that a feed can be
/// without.
#[derive(Debug)]
pub(super) struct OwnFlags {
    fields: ProviderFields,
    removed: Vec<&'static Field>,
}

impl OwnFlags {
    /// Returns the given fields. Fails if one belongs to another feed type.
    pub(super) fn of(self, feed_type: FeedType) -> Result<ProviderFields, CommandFailure> {
        // Both flags of such a field set it, so `check` could not name the one that was given.
        if let Some(field) = self.removed.iter().find(|field| feed_type.field(field.name).is_none()) {
            let error = format!("--{}: a feed of type {feed_type} has no such field", removal(field));
            return Err(CommandFailure::usage(error));
        }
        match self.fields.check(feed_type) {
            Ok(()) => Ok(self.fields),
            Err(error) => {
                let flag = format!("--{}", error.field().replace('_', "-"));
                Err(CommandFailure::usage(error.to_string().replacen(error.field(), &flag, 1)))
            }
        }
    }
}

impl Args for OwnFlags {
    fn augment_args(command: Command) -> Command {
        FeedType::all_fields().into_iter().fold(command, |command, (field, types)| {
            let types: Vec<&str> = types.into_iter().map(FeedType::as_str).collect();
            let help = |text: &str| format!("{}: {}", types.join(", "), in_lower_case(text));
            let command = command.arg(flag(field).help(help(field.description)));
            match field.presence {
                Presence::Optional { removal: text, .. } => command.arg(
                    Arg::new(removal(field))
                        .long(removal(field))
                        .action(ArgAction::SetTrue)
                        .conflicts_with(field.name)
                        .help(help(text)),
                ),
                _ => command,
            }
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for OwnFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self { fields: ProviderFields::default(), removed: Vec::new() };
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for (field, _) in FeedType::all_fields() {
            set(&mut self.fields, field, matches)?;
            if field.is_removable() && matches.get_flag(&removal(field)) {
                self.removed.push(field);
                self.fields.set(field, Value::Null).map_err(refused)?;
            }
        }
        Ok(())
    }
}

fn flag(field: &Field) -> Arg {
    let parse = field.parser();
    Arg::new(field.name).long(field.flag()).value_name(field.value_name).value_parser(parse)
}

fn removal(field: &Field) -> String {
    format!("no-{}", field.flag())
}

fn set(fields: &mut ProviderFields, field: &Field, matches: &ArgMatches) -> Result<(), clap::Error> {
    match matches.get_one::<Value>(field.name) {
        Some(value) => fields.set(field, value.clone()).map_err(refused),
        None => Ok(()),
    }
}

fn refused(rule: String) -> clap::Error {
    clap::Error::raw(ErrorKind::ValueValidation, rule)
}

fn in_lower_case(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}
