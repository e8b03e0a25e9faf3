mod failures;
mod lanes;
mod memory;
mod schedules;
mod single_flight;
mod support;
