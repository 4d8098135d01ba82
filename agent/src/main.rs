fn main() -> std::process::ExitCode {
    weir_agent::cli::main()
}
