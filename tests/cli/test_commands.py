"""Every command is a documented function."""

import inspect

import pytest

from mebert.cli.commands import COMMANDS, command_function
from mebert.cli.main import main


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_a_documented_function_that_takes_a_config(name, tmp_path, capsys):
    function = command_function(name)
    assert function.__doc__
    assert inspect.signature(function).return_annotation in (None, "None", "int"), "nothing, or an exit status"
    with pytest.raises(SystemExit):
        main([name, "--print_config"])
    printed = capsys.readouterr().out
    (tmp_path / "own.yaml").write_text(printed, encoding="utf-8")
    with pytest.raises(SystemExit):
        main([name, "--config", str(tmp_path / "own.yaml"), "--print_config"])
    assert capsys.readouterr().out == printed
