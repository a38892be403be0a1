"""Maps of one's own: what a YAML file may say, how it is kept, and what is wrong with others."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

from seca_jax import envs
from seca_jax.config import compose
from seca_jax.config.check import ConfigError
from seca_jax.config.keys import get
from seca_jax.envs.smax import custom
from seca_jax.envs.smax.scenarios import SCENARIOS, Ridge, Scenario, Start, max_steps
from seca_jax.envs.smax.units import COLOSSUS, MARINE, MEDIVAC, STALKER, ZEALOT, ZERGLING

FULL = """
allies: {stalker: 2, colossus: 1}
enemies: [zealot, marine, zealot]
max_steps: 80
smac_steps: 90
start: {ally: [4, 5.5], enemy: [20, 21], spread: 3}
ridge: {south: 13, north: 15, ramp_west: 24, ramp_east: 28}
"""


@pytest.fixture
def written(tmp_path):
    def write(text, name="mine.yaml"):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def test_a_file_says_all_that_a_scenario_has(written):
    expected = Scenario(
        "mine", (STALKER, STALKER, COLOSSUS), (ZEALOT, MARINE, ZEALOT), 90, 80,
        start=Start((4.0, 5.5), (20.0, 21.0), 3.0), ridge=Ridge(13.0, 15.0, 24.0, 28.0), upstream=False,
    )  # fmt: skip
    assert custom.read(written(FULL)) == expected


def test_left_out_are_the_defaults(written):
    found = custom.read(written("allies: {marine: 1}\nenemies: {marine: 2}\n"))
    assert found == Scenario("mine", (MARINE,), (MARINE, MARINE), upstream=False)
    assert max_steps(found, "smac") == max_steps(found, "upstream") == 101


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_map_survives_being_written(name):
    scenario = SCENARIOS[name]
    text = custom.written(scenario)
    assert "\n" not in text
    assert custom.parse(text, name, "") == scenario._replace(upstream=False)


@pytest.mark.parametrize("name", ["3m", "smacv2_5_units"])
def test_a_copy_of_a_map_is_that_map(name):
    """Battles of equal keys are equal, but for the longer type code on maps that jaxmarl lacks."""
    config = compose.compose({"map": SCENARIOS[name]._replace(name="copy")})
    ours, copy = envs.make(compose.compose({"map": name})), envs.make(config)
    action = np.zeros((3, ours.num_agents), np.int32)

    def begun(env):
        return jax.jit(lambda key: env.step(key, env.reset(key, 3), action))(jax.random.key(0))

    jax.tree.map(np.testing.assert_array_equal, begun(ours), begun(copy))
    assert copy.num_actions == ours.num_actions and copy.name == "copy"


def test_a_run_keeps_the_map_and_not_the_file(written, tmp_path):
    config = compose.from_words([f"map={written(FULL)}"])
    assert config.map == "mine"
    compose.save(tmp_path, config, {})
    (tmp_path / "mine.yaml").unlink()
    again, _ = compose.load(tmp_path)
    assert again == config and envs.make(again).num_agents == 3
    # The file, where it still is, may be named again; another one of that name may not
    same = written(FULL)
    assert compose.resumed({"resume": str(tmp_path), "map": same}).map == "mine"
    other = written(FULL.replace("80", "81"))
    with pytest.raises(
        ConfigError, match=r"^env.scenario=.*: the run in .* leave the key out, or train anew .*$"
    ):
        compose.resumed({"resume": str(tmp_path), "map": other})


def test_a_scenario_of_python_is_a_map():
    mine = Scenario("mine", (MARINE,), (MARINE,), max_steps=9)
    config = compose.compose({"map": mine, "seeds": 1})
    assert (config.map, envs.make(config).max_steps) == ("mine", 9)
    assert get(config, "env.scenario") == custom.written(mine)


def test_battles_of_healers_and_fighters_can_be_fought(written):
    env = envs.make(
        compose.from_words(
            [f"map={written('allies: {marine: 2, medivac: 1}' + chr(10) + 'enemies: [zealot]')}"]
        )
    )
    state = env.reset(jax.random.key(0), 2)
    view = env.view(state)
    assert view.obs.shape == (2, 3, env.obs_size) and view.avail.shape == (2, 3, env.num_actions)
    assert MEDIVAC in np.asarray(env.frame(state).unit_type) and env.frame(state).ridge is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[", "is no YAML ("),
        (
            "3",
            "a map is no mapping; it has allies, enemies, max_steps, smac_steps, random_start, random_types, "
            "start, ridge",
        ),
        ("enemies: [marine]", "allies are missing, as in allies: {stalker: 2, zealot: 3}"),
        ("ally: [marine]", "unknown key ally (did you mean allies?); a map has allies, enemies"),
        ("allies: 3\nenemies: [marine]", "allies: expected {stalker: 2, zealot: 3} or a list of unit types"),
        (
            "allies: [marin]\nenemies: [marine]",
            "allies: unknown unit type marin (did you mean marine?); one of marine",
        ),
        ("allies: {marine: 0}\nenemies: [marine]", "allies: marine: 0 must be a whole number from 1 to 128"),
        ("allies: []\nenemies: [marine]", "allies: 0 units; give 1 to 128"),
        ("allies: {marine: 128, zealot: 1}\nenemies: [marine]", "allies: 129 units; give 1 to 128"),
        ("allies: [medivac]\nenemies: [marine]", "allies: who can only heal has lost before it begins"),
        ("allies: [marine]\nenemies: [marine]\nmax_steps: 0", "max_steps: 0 must be at least 1"),
        ("allies: [marine]\nenemies: [marine]\nmax_steps: long", "max_steps: long must be a whole number"),
        ("allies: [marine]\nenemies: [marine]\nrandom_start: 3", "random_start: 3 must be true or false"),
        (
            "allies: [colossus]\nenemies: [marine]\nrandom_types: true",
            "allies: where types are drawn, give only marine, marauder, stalker, zealot, zergling, hydralisk",
        ),
        ("allies: [marine]\nenemies: [marine]\nstart: {ally: 3}", "start: ally: expected [x, y], in cells"),
        (
            "allies: [marine]\nenemies: [marine]\nstart: {place: 3}",
            "unknown key place; start has ally, enemy, spread",
        ),
        ("allies: [marine]\nenemies: [marine]\nstart: {spread: -1}", "start: spread -1.0 must be at least 0"),
        (
            "allies: [marine]\nenemies: [marine]\nstart: {ally: [1, 9]}",
            "start: ally [1, 9] with a spread of 2 leaves the map, which is 0 to 32 both ways",
        ),
        (
            "allies: [marine]\nenemies: [marine]\nridge: {south: 3}",
            "ridge: north is missing; it has south, north, ramp_west, ramp_east",
        ),
        (
            "allies: [marine]\nenemies: [marine]\nridge: {south: 3, north: 2, ramp_west: 1, ramp_east: 2}",
            "ridge: south, then north must lie between 0 and 32",
        ),
    ],
)
def test_what_is_no_map_is_said_in_a_line(refused, written, text, complaint):
    path = written(text)
    assert refused(f"map={path}").startswith(f"map={path}: {complaint}")


def test_files_that_cannot_be_maps(refused, written):
    assert refused("map=nowhere.yaml") == "map=nowhere.yaml: cannot be read (No such file or directory)"
    fine = "allies: [marine]\nenemies: [marine]\n"
    path = written(fine, "3m.yaml")
    assert refused(f"map={path}") == f"map={path}: there is a map 3m already; give it another name"
    path = written(fine, "my map.yaml")
    assert refused(f"map={path}").startswith(f"map={path}: name the file by letters, digits and underscores")
    assert (
        refused("nowhere.yaml")
        == "nowhere.yaml: expected key=value, as in map=nowhere.yaml; --help lists all keys"
    )
    line = custom.written(SCENARIOS["3m"])
    assert refused(f"env.scenario={line}") == "env.scenario: there is a map 3m already; give another name"
    assert refused("map=mine", "env.scenario=3").startswith("env.scenario: a map is no mapping")


def test_messages_of_scenarios_name_the_map():
    with pytest.raises(ConfigError, match=re.escape("map mine: enemies: 99 is no unit type")):
        custom.checked(Scenario("x", (MARINE,), (99,)), "mine")


def test_the_example_of_the_documents_is_a_map():
    text = (Path(__file__).resolve().parents[2] / "docs" / "maps.md").read_text()
    (example,) = re.findall(r"^```yaml\n# ambush\.yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert custom.parse(example, "ambush", "").enemies == (ZEALOT, ZERGLING)
