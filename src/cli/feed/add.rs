//! The arguments of `carnet feed add TYPE`, one subcommand for each type of feed.

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, Subcommand, value_parser};

use crate::cli::failure::CommandFailure;
use crate::cli::feed_fields::NewFeed;
use crate::cli::output::OutputOptions;
use crate::cli::own_flags;
use crate::feed::declaration::KnownRegistry;
use crate::feed::provider_fields::ProviderFields;
use crate::feed::registry_host::RegistryHost;
use crate::feed::{FeedDraft, FeedType};
use crate::feeds::Sharing;

const REGISTRY: &str = "registry";

#[derive(Debug)]
pub(in crate::cli) struct Add {
    feed_type: FeedType,
    registry: RegistryHost,
    own: ProviderFields,
    new: NewFeed,
    pub(super) output: OutputOptions,
}

impl Add {
    pub(super) fn sharing(&self) -> Sharing {
        self.new.sharing.of()
    }

    pub(super) fn draft(self) -> Result<FeedDraft, CommandFailure> {
        let provider = self.own.provider(self.feed_type);
        self.new.draft(self.registry, provider.map_err(|error| CommandFailure::usage(error.to_string()))?)
    }
}

fn command(feed_type: FeedType) -> Command {
    let declaration = feed_type.declaration();
    let registry = Arg::new(REGISTRY).long(REGISTRY).value_name("HOST");
    let registry = registry.value_parser(value_parser!(RegistryHost));
    let registry = match declaration.registry {
        KnownRegistry::Such(host) => {
            registry.help(format!("The registry's host, such as {host}")).required(true)
        }
        KnownRegistry::Only(host) => registry.help("The registry's host").default_value(host),
    };
    let command = own_flags::add_to(Command::new(feed_type.as_str()).arg(registry), feed_type);
    // Derived arguments bring descriptions of their own, so that of the type comes last.
    OutputOptions::augment_args(NewFeed::augment_args(command))
        .about(declaration.about)
        .long_about(None::<&str>)
}

impl Subcommand for Add {
    fn augment_subcommands(parent: Command) -> Command {
        FeedType::ALL.into_iter().fold(parent, |parent, feed_type| parent.subcommand(command(feed_type)))
    }

    fn augment_subcommands_for_update(parent: Command) -> Command {
        Self::augment_subcommands(parent)
    }

    fn has_subcommand(name: &str) -> bool {
        FeedType::ALL.iter().any(|feed_type| feed_type.as_str() == name)
    }
}

impl FromArgMatches for Add {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let missing = || clap::Error::new(ErrorKind::MissingSubcommand);
        let (name, matches) = matches.subcommand().ok_or_else(missing)?;
        let feed_type = FeedType::ALL.into_iter().find(|feed_type| feed_type.as_str() == name);
        let feed_type = feed_type.ok_or_else(|| clap::Error::new(ErrorKind::InvalidSubcommand))?;
        let registry: Option<&RegistryHost> = matches.get_one(REGISTRY);
        Ok(Self {
            feed_type,
            registry: registry.ok_or_else(|| clap::Error::new(ErrorKind::MissingRequiredArgument))?.clone(),
            own: own_flags::given(feed_type, matches)?,
            new: NewFeed::from_arg_matches(matches)?,
            output: OutputOptions::from_arg_matches(matches)?,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_a_subcommand_with_its_description_and_the_flags_of_its_fields() {
        let parent = Add::augment_subcommands(Command::new("add"));
        for feed_type in FeedType::ALL {
            let command = parent.find_subcommand(feed_type.as_str()).unwrap();
            let about = command.get_about().map(ToString::to_string);
            assert_eq!(about.as_deref(), Some(feed_type.declaration().about));
            assert!(command.get_long_about().is_none(), "{feed_type}");
            for (field, types) in FeedType::all_fields() {
                let has = command.get_arguments().any(|flag| flag.get_long() == Some(&field.flag()));
                assert_eq!(has, types.contains(&feed_type), "{feed_type} --{}", field.flag());
            }
        }
    }
}
