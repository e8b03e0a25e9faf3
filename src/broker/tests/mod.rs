mod crowds;
mod failures;
mod forgotten;
mod lanes;
mod memory;
mod schedules;
mod single_flight;
mod support;
