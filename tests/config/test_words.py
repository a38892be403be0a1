"""Words of the command line: their types, sweeps, and what is said of those that are none."""

import pytest

from seca_jax.config import words


def test_values_take_their_keys_type():
    values = words.parse(
        [
            "total_steps=4e6",
            "num_envs=1_024",
            "gamma=1",
            "log.progress=False",
            "name=007",
            "out=/a b/c=(d),e",
            "wandb.group=",
        ]
    )
    assert values == {
        "total_steps": 4_000_000, "num_envs": 1024, "gamma": 1.0, "log.progress": False, "name": "007",
        "out": "/a b/c=(d),e", "wandb.group": "",
    }  # fmt: skip
    assert type(values["gamma"]) is float and type(values["total_steps"]) is int


def test_sweeps_expand_to_every_combination():
    jobs = words.expand(["seed=0,5", "map=3m,2s3z", "actor.lr=1e-3", "num_envs=range(4,9,4)", "out=/a b/(c)"])
    assert len(jobs) == 8 and len({tuple(job) for job in jobs}) == 8
    assert all(job[2] == "actor.lr=1e-3" and job[4] == "out=/a b/(c)" for job in jobs)
    assert {job[0] for job in jobs} == {"seed=0", "seed=5"}
    assert {job[3] for job in jobs} == {"num_envs=4", "num_envs=8"}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1,2", ["1", "2"]),
        ("1, 2", ["1", "2"]),
        ("choice(a,b,c)", ["a", "b", "c"]),
        ("choice(a)", ["a"]),
        ("range(3)", ["0", "1", "2"]),
        ("range(1,3)", ["1", "2"]),
        ("range(5,0,-2)", ["5", "3", "1"]),
        ("range(0,0.3,0.1)", ["0", "0.1", "0.2"]),
        ("'a,b'", ["'a,b'"]),
        ('"a,b",c', ['"a,b"', "c"]),
        ("f(a,b)", ["f(a,b)"]),
        ("(a,b", ["(a,b"]),
        ("a:b,c", ["a:b", "c"]),
        ("", [""]),
    ],
)
def test_what_several_values_look_like(text, values):
    assert words.expand([f"name={text}"]) == [[f"name={value}"] for value in values]


@pytest.mark.parametrize("text", ["1,", ",1", "1,,2", "range()", "range(a)", "range(1,2,0)", "range(3,1)"])
def test_sweeps_that_say_nothing(refused, text):
    assert refused("--multirun", f"seed={text}").startswith(f"seed={text}: ")


def test_a_key_given_twice_in_a_sweep_counts_once():
    assert words.expand(["seed=1,2", "map=3m", "seed=3"]) == [["seed=3", "map=3m"]]


@pytest.mark.parametrize(
    ("apart", "said"),
    [
        (("map", "=", "3m"), "map = 3m"),
        (("map", "=3m"), "map =3m"),
        (("map=", "3m"), "map= 3m"),
        (("--map", "3m"), "--map 3m"),
        (("--map", "=", "3m"), "--map = 3m"),
        (("map", "3m"), "map 3m"),
        (("map:", "3m"), "map: 3m"),
    ],
)
def test_a_value_apart_from_its_key(refused, apart, said):
    asked = f"{said}: write map=3m; --help lists all keys"
    assert refused("seeds=1", *apart, "seed=3") == refused("seeds=1", *apart) == asked
