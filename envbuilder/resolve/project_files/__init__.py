"""What a project already has: its files → options of a request, packages, and an answer for each line.

    statements          what a line can say, and what an address of an index says
    requirements_txt    pip's requirements and constraints files
    project_toml        pyproject.toml (PEP 621, groups, Poetry, PDM, uv) and Pipfile
    lock_files          uv.lock, pylock.toml, poetry.lock
    conda_environment   environment.yml
    docker_file         Dockerfile
    kinds               which of these reads a file, by its name
    combination         statements of all files → `ProjectRequest`: what became of each

Pure: `cli/requirement_files.py` reads the files. What a version is, `packaging` says.
"""
