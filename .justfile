# list the recipes
default:
    @just --list

# all tests, linters among them
test *args:
    python -m pytest {{args}}

# what CI checks before the tests
lint:
    ruff check && ruff format --check && mypy && lint-imports

# mend what can be mended by machine
fix:
    ruff check --fix && ruff format

# what of the manual comes from the code
docs:
    python -m tests.generate_docs

# the README's two commands, each from a bare clone
ci:
    bash .ci/run

# loco, from this checkout
run *args:
    python -m loco_cli {{args}}
