mod entries;
mod exit_sites;
mod files;
mod fixture;
mod go_programs;
mod paths;
mod stripped_files;
